"""Every fault applied to every healthy program that it fits: `python -m benchmarks.mutations [--confirm] [NAME ...]`.

A mutation edits the source at the places that the syntax tree names, so that lines keep their numbers. Prints one line a
mutant, then the table rule by program (`+` first, `o` among the findings, `.` missed), then the rates.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy import Outcome, examine, patients

Edit = tuple[int, int, int, str]  # line, first column, end column, new text


@dataclass(frozen=True)
class Mutant:
    """A mutated source, and what is wrong with it. `lines` are those on which the fault may be told."""

    fault: str
    source: str
    lines: tuple[int, ...]
    also: tuple[str, ...] = ()


def _calls(tree: ast.AST, *names: str) -> list[ast.Call]:
    def name(node: ast.Call) -> str:
        function = node.func
        return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")

    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and name(node) in names]
    return sorted((node for node in found if node.lineno == node.end_lineno), key=lambda node: node.lineno)


def _text(source: str, node: ast.expr) -> str:
    return ast.get_source_segment(source, node) or ""


def _edited(source: str, edits: list[Edit]) -> str:
    lines = source.splitlines()
    for line, start, end, new in sorted(edits, reverse=True):
        text = lines[line - 1].encode()
        lines[line - 1] = (text[:start] + new.encode() + text[end:]).decode()
    return "\n".join(lines) + "\n"


def _replaced(source: str, nodes: list[ast.Call], new: Callable[[ast.Call], str]) -> str:
    edits = [(node.lineno, node.col_offset, node.end_col_offset or 0, new(node)) for node in nodes]
    return _edited(source, edits)


def _around(source: str, line: int, *words: str) -> tuple[int, ...]:
    """The lines with one of these words, and the line itself."""
    found = [n for n, text in enumerate(source.splitlines(), 1) if any(word in text for word in words)]
    return (line, *found)


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutation that fits this program."""
    tree = ast.parse(source)
    yield from _loop(source, tree)
    yield from _rates(source, tree)
    yield from _losses(source, tree)
    yield from _layers(source, tree)


def _loop(source: str, tree: ast.AST) -> Iterator[Mutant]:
    for name, fault in (("zero_grad", "missing-zero-grad"), ("step", "missing-step"), ("backward", "missing-backward")):
        calls = [c for c in _calls(tree, name) if "sched" not in _text(source, c)]
        if calls:
            mutated = _replaced(source, calls, lambda _: "None")
            lines = _around(source, calls[0].lineno, "backward(", ".step(", "zero_grad(")
            yield Mutant(
                fault, mutated, lines, ("missing-step", "missing-backward") if fault != "missing-zero-grad" else ()
            )
    evals = _calls(tree, "eval")
    if evals and re.search(r"Dropout|BatchNorm|ResNetConfig", source):
        lines = tuple(range(evals[0].lineno, evals[0].lineno + 9))
        yield Mutant("missing-eval-mode", _replaced(source, evals, lambda _: "None"), lines)


def _rates(source: str, tree: ast.AST) -> Iterator[Mutant]:
    made = _calls(tree, "Adam", "AdamW", "SGD")
    if not made:
        return
    lines = tuple(call.lineno for call in made)
    rates = [(k.value, call) for call in made for k in call.keywords if k.arg == "lr"]
    if rates:
        value, call = rates[0]
        factor = "300" if "Adam" in _text(source, call) else "100"
        for fault, by in (("lr-too-high", factor), ("lr-too-low", "1e-6")):
            new = f"{by} * ({_text(source, value)})"
            edit = (value.lineno, value.col_offset, value.end_col_offset or 0, new)
            yield Mutant(
                fault, _edited(source, [edit]), lines, ("exploding-gradients",) if fault == "lr-too-high" else ()
            )
    parameters = [c for c in _calls(tree, "parameters") if c.lineno in lines]
    if parameters:
        mutated = _replaced(source, parameters, lambda c: f"list({_text(source, c)})[:-2]")
        yield Mutant("optimizer-missing-params", mutated, lines)


def _losses(source: str, tree: ast.AST) -> Iterator[Mutant]:
    for name, activation, fault in (
        ("cross_entropy", "softmax({}, dim=-1)", "wrong-output-activation"),
        ("binary_cross_entropy_with_logits", "sigmoid({})", "wrong-output-activation"),
    ):
        calls = [c for c in _calls(tree, name) if c.args]
        if calls and "import torch\n" in source:
            edits = [_wrapped(source, c, "torch." + activation) for c in calls]
            yield Mutant(fault, _edited(source, edits), tuple(c.lineno for c in calls))
    squeezed = [
        c
        for c in _calls(tree, "squeeze", "flatten")
        if "model(" in _text(source, c) or "prediction" in _text(source, c)
    ]
    if squeezed and "MSELoss" in source:
        mutated = _replaced(source, squeezed, lambda c: _text(source, c.func.value))  # type: ignore[attr-defined]
        yield Mutant("broadcast-loss", mutated, _around(source, squeezed[0].lineno, "loss = "))
    backwards = _calls(tree, "backward")
    if backwards:
        mutated = _replaced(
            source,
            backwards,
            lambda c: f"({_text(source, c.func.value)}).detach().requires_grad_().backward()",  # type: ignore[attr-defined]
        )
        lines = tuple(c.lineno for c in backwards)
        yield Mutant("non-differentiable-loss", mutated, lines, ("detached-graph",))


def _wrapped(source: str, call: ast.Call, pattern: str) -> Edit:
    first = call.args[0]
    return first.lineno, first.col_offset, first.end_col_offset or 0, pattern.format(_text(source, first))


def _layers(source: str, tree: ast.AST) -> Iterator[Mutant]:
    linears = [c for c in _calls(tree, "Linear") if len(c.args) >= 2]
    if linears:
        last = linears[-1]
        edit = _wrapped(source, last, "1 + {}")
        yield Mutant(
            "shape-mismatch", _edited(source, [edit]), _around(source, last.lineno, "forward", "return ", "model(")
        )
    activations = [c for c in _calls(tree, "relu") if len(c.args) == 1]
    modules = [c for c in _calls(tree, "ReLU") if not c.args]
    if (activations or modules) and "Conv" not in source and linears:
        edits = [(c.lineno, c.col_offset, c.end_col_offset or 0, f"({_text(source, c.args[0])})") for c in activations]
        edits += [(c.lineno, c.col_offset, c.end_col_offset or 0, "nn.Identity()") for c in modules]
        lines = tuple(range(1, source.count("\n") + 1))  # several lines are right: layers, forward, and its call
        yield Mutant("missing-activation", _edited(source, edits), lines)
    models = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "model"]
    for fault, call, also in (
        ("zero-init", "zeros_(p)", ("symmetric-init",)),
        ("symmetric-init", "constant_(p, 0.05)", ()),
    ):
        if models and "Embedding" not in source and "from_pretrained" not in source:
            end = models[0].end_lineno or models[0].lineno
            text = source.splitlines()
            text[end - 1] += f"; [torch.nn.init.{call} for p in model.parameters() if p.dim() > 1]"
            yield Mutant(fault, "\n".join(text) + "\n", tuple(range(1, len(text) + 1)), also)


def main() -> None:
    """Examine every mutant, print the table and the rates."""
    extra = [] if "--confirm" in sys.argv else ["--no-confirm"]
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    table: dict[tuple[str, str], str] = {}
    outcomes: list[Outcome] = []
    for path, truth in patients(names or ["tabular", "recommender", "gpt", "resnet", "deepspeech"]):
        if truth["fault"] != "none":
            continue
        for mutant in mutants(path.read_text()):
            outcome = _outcome(path, mutant, extra)
            outcomes.append(outcome)
            mark = "+" if outcome.first else "o" if outcome.found else "."
            program = f"{path.parent.name}/{path.stem}"
            table[mutant.fault, program] = mark
            line = "" if outcome.line is None else "line" if outcome.line else "LINE?"
            print(
                f"{mark} {program:<40} {mutant.fault:<26} {' '.join(outcome.alarms) or '-':<24} {line:<6}{outcome.verdict}",
                flush=True,
            )
    _print_table(table)
    first = [o for o in outcomes if o.first]
    print(f"\n{len(outcomes)} mutants; found first {len(first)}; found {sum(o.found for o in outcomes)}; "
          f"right line {sum(bool(o.line) for o in first)}")  # fmt: skip


def _outcome(path: Path, mutant: Mutant, extra: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.parent.name
        shutil.copytree(path.parent, copy)
        (copy / path.name).write_text(mutant.source)
        truth = {"fault": mutant.fault, "lines": list(mutant.lines), "also": list(mutant.also)}
        return examine(copy / path.name, truth, extra)


def _print_table(table: dict[tuple[str, str], str]) -> None:
    programs = sorted({program for _, program in table})
    print("\n" + "\n".join(f"{number:>2} {program}" for number, program in enumerate(programs, 1)))
    print(f"\n{'fault':<28}" + "".join(f"{number:>3}" for number in range(1, len(programs) + 1)))
    for fault in sorted({fault for fault, _ in table}):
        print(f"{fault:<28}" + "".join(f"{table.get((fault, program), ''):>3}" for program in programs))


if __name__ == "__main__":
    main()
