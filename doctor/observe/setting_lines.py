"""The lines on which an optimizer's settings stand: keywords of the call that makes it, or of what stands for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from doctor.observe.frames import Line

# What the Trainer of transformers makes its optimizer from (`TrainingArguments`), by the optimizer's own names.
_STANDS_FOR = {
    "learning_rate": "lr",
    "adam_beta1": "betas[0]",
    "adam_beta2": "betas[1]",
    "adam_epsilon": "eps",
}
_LIBRARY_CALL = "TrainingArguments"


def setting_lines(text: str, created: Line, by_library: bool) -> dict[str, Line]:
    """For each keyword of the call, by the optimizer's name for it, its line; the call's own line under "".

    `text` is the file of the line `created`, `by_library` whether a Trainer of transformers made the optimizer.
    """
    path, line, function = created
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    call = _arguments_of_trainer(calls) if by_library else _at(calls, line)
    if call is None:
        return {}
    found = {name: [path, at, function] for name, at in _keywords(call)}
    if by_library:
        found[""] = [path, call.lineno, function]
    return found


def _arguments_of_trainer(calls: list[ast.Call]) -> ast.Call | None:
    found = [call for call in calls if _called(call).endswith(_LIBRARY_CALL)]
    return found[0] if len(found) == 1 else None


def _at(calls: list[ast.Call], line: object) -> ast.Call | None:
    """The call with keywords that begins on this line, the widest of several."""
    found = [call for call in calls if call.lineno == line and call.keywords]
    return max(found, key=lambda call: call.end_lineno or 0, default=None)


def _keywords(call: ast.Call) -> Iterator[tuple[str, int]]:
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield _STANDS_FOR.get(keyword.arg, keyword.arg), keyword.value.lineno


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
