"""Lines of the user's own files on which data is converted, split, permuted or put into a data set."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from typing import Any

from doctor.observe import unsplit
from doctor.observe.frames import UserFrames

_KINDS = {
    "convert": {"tensor", "as_tensor", "from_numpy", "FloatTensor", "LongTensor", "Tensor", "asarray", "to_tensor",
                "ToTensor"},
    "split": {"train_test_split", "random_split", "Subset", "split_dataset", "KFold", "ShuffleSplit", "StratifiedKFold",
              "SubsetRandomSampler"},
    "permute": {"shuffle", "permutation", "randperm", "permute_rows", "sample", "argsort", "sort"},
    "dataset": {"TensorDataset"},
    "encode": {"factorize", "Categorical"},
    "normalise": {"Normalize", "normalize", "StandardScaler", "MinMaxScaler", "fit_transform", "transform",
                  "standardize", "standardise", "normalise"},
    "flip": {"flip", "fliplr", "flipud", "hflip", "vflip", "horizontal_flip", "vertical_flip", "rot90",
             "RandomHorizontalFlip", "RandomVerticalFlip", "HorizontalFlip", "VerticalFlip"},
    "random": {"default_rng", "RandomState", "Random", "Generator", "manual_seed", "seed"},
}  # fmt: skip
# What changes the type or the shape of values, and not the values.
_KEEPING = {
    *_KINDS["convert"], "float", "double", "long", "int", "half", "bool", "to", "cpu", "numpy", "clone", "contiguous",
    "squeeze", "unsqueeze", "view", "reshape", "flatten", "permute", "transpose", "movedim", "astype", "array", "copy", "len",
    "range", "arange", "slice", "to_numpy",
}  # fmt: skip
_MOST_LINES = 4000
_STEPPED = re.compile(r"opt", re.IGNORECASE)
_MODE = re.compile(r"train|augment|eval|test|valid|mode|split|phase", re.IGNORECASE)
_LOSS = re.compile(r"(loss|loss_fn|criterion|cross_entropy|objective|bce|mse)\w*$", re.IGNORECASE)
_PREPARES = re.compile(r"scal|normali[sz]|standard|minmax|encod|imput|vectori[sz]|quantile|whiten|pca", re.IGNORECASE)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While)


def data_lines(frames: UserFrames, script: str) -> Iterator[dict[str, Any]]:
    """Every such call: its kind, line, function, the names that it is assigned to, and the names in its arguments."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files.add(script.split(".py:")[0] + ".py" if ".py:" in script else script)
    for file in sorted(name for name in files if name and name.endswith(".py")):
        name = frames.name(file)
        if name is None:
            continue
        try:
            with open(file, encoding="utf-8") as source:
                text = source.read()
            if text.count("\n") <= _MOST_LINES and ("torch" in text):
                yield from _of(ast.parse(text), name)
        except (OSError, SyntaxError, ValueError):
            continue


def _of(tree: ast.Module, path: str) -> Iterator[dict[str, Any]]:
    for line in _strides(tree):
        yield {"kind": "stride", "line": [path, line, ""], "call": "range", "names": [], "arguments": []}
    for line, whole, part in unsplit.find(tree):
        yield {"kind": "whole", "line": [path, line, ""], "call": "", "names": [part], "arguments": [whole]}
    for line, receiver in _steps(tree):
        yield {"kind": "step", "line": [path, line, ""], "call": "step", "names": [receiver], "arguments": []}
    for function in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))]:
        parameters, guarded = _parameters(function), _guarded(function)
        for statement in _own_statements(function):
            calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call)]
            found = [(kind, call) for call in calls if (kind := _kind(call)) is not None]
            if not found and calls and isinstance(statement, ast.Assign):
                found = [("assign", calls[0])]
            if (made := _labels_made(statement)) is not None:
                place = [path, made, getattr(function, "name", "<module>")]
                yield {"kind": "labels", "line": place, "call": "", "names": _assigned(statement), "arguments": []}
            for call in calls:
                if names := _target_names(call):
                    place = [path, call.lineno, getattr(function, "name", "<module>")]
                    yield {"kind": "compared", "line": place, "call": _name(call.func), "names": [], "arguments": names}
            if isinstance(statement, ast.Assign) and _is_scaled(statement.value):
                place = [path, statement.lineno, getattr(function, "name", "<module>")]
                yield {
                    "kind": "guarded" if statement in guarded else "scaled",
                    "line": place,
                    "call": "",
                    "names": _assigned(statement),
                    "arguments": [],
                }
            if any(map(_is_window, ast.walk(statement))):
                place = [path, statement.lineno, getattr(function, "name", "<module>")]
                yield {"kind": "window", "line": place, "call": "", "names": _assigned(statement), "arguments": []}
            if isinstance(statement, ast.Assign) and _is_taken(statement.value):
                place = [path, statement.lineno, getattr(function, "name", "<module>")]
                yield {"kind": "taken", "line": place, "call": "", "names": _assigned(statement), "arguments": []}
            for kind, call in found:
                yield {
                    "kind": kind,
                    "line": [path, call.lineno, getattr(function, "name", "<module>")],
                    "call": _name(call.func),
                    "names": _assigned(statement),
                    "arguments": sorted({_name(n) for a in call.args for n in ast.walk(a)} - {""}),
                    "passed": _is_passed(call, parameters),
                    "computed": [_is_computed(argument) for argument in call.args] if kind == "dataset" else [],
                }


def _kind(call: ast.Call) -> str | None:
    called = _name(call.func)
    if called == "fit" and isinstance(call.func, ast.Attribute):
        return "normalise" if _PREPARES.search(_name(call.func.value)) else None
    return next((kind for kind, names in _KINDS.items() if called in names), None)


def _parameters(function: ast.AST) -> set[str]:
    return {argument.arg for argument in function.args.args} if isinstance(function, ast.FunctionDef) else set()


def _is_passed(call: ast.Call, parameters: set[str]) -> bool:
    """Whether it converts what the function was given, and its values come from elsewhere."""
    first = call.args[0] if call.args else None
    return isinstance(first, ast.Name) and first.id in parameters


def _is_taken(value: ast.expr) -> bool:
    """Whether this is a part of something (a column of a table), or arithmetic on one."""
    if isinstance(value, ast.BinOp):
        return _is_taken(value.left) or _is_taken(value.right)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return _is_taken(value.func.value)
    if isinstance(value, ast.Attribute) and value.attr in ("values", "data", "T"):
        return True
    return isinstance(value, ast.Subscript) and not isinstance(value.slice, ast.Slice)


def _labels_made(statement: ast.stmt) -> int | None:
    """The line on which what transformers calls `labels` gets its value: a key of a table, or a name."""
    for node in ast.walk(statement):
        keys = node.keys if isinstance(node, ast.Dict) else ()
        for key, value in zip(keys, getattr(node, "values", ()), strict=False):
            if isinstance(key, ast.Constant) and key.value == "labels":
                return int(value.lineno)
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    for target in targets:
        key = target.slice if isinstance(target, ast.Subscript) else target
        if getattr(key, "value", getattr(key, "id", None)) == "labels":
            return statement.lineno
    return None


def _target_names(call: ast.Call) -> list[str]:
    """The variables in the targets of what is a loss by its name."""
    if not _LOSS.search(_name(call.func)) or len(call.args) < 2:
        return []
    return sorted({node.id for node in ast.walk(call.args[1]) if isinstance(node, ast.Name)} - {"self"})


def _guarded(function: ast.AST) -> set[ast.stmt]:
    """The statements that run in training only, or in evaluation only."""
    tests = [n for n in ast.walk(function) if isinstance(n, ast.If) and _MODE.search(ast.unparse(n.test))]
    return {statement for test in tests for statement in (*test.body, *test.orelse)}


def _is_scaled(value: ast.expr) -> bool:
    """`(x - mean) / std`."""
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Div):
        return False
    return isinstance(value.left, ast.BinOp) and isinstance(value.left.op, ast.Sub)


def _is_window(node: ast.AST) -> bool:
    """`series[i : i + length]`, or a call that cuts all windows at once."""
    if isinstance(node, ast.Call):
        return _name(node.func) in ("unfold", "sliding_window_view")
    bounds = node.slice if isinstance(node, ast.Subscript) else None
    if isinstance(bounds, ast.Tuple) and bounds.elts:
        bounds = bounds.elts[0]
    if not isinstance(bounds, ast.Slice) or bounds.lower is None or not isinstance(bounds.upper, ast.BinOp):
        return False
    return not isinstance(bounds.lower, ast.Constant) and isinstance(bounds.upper.op, ast.Add)


def _is_computed(argument: ast.expr) -> bool:
    """Whether values are made or changed within this expression: arithmetic, or a call that does not only convert."""
    if isinstance(argument, ast.Subscript):
        return _is_computed(argument.value) or any(
            isinstance(n, ast.Call) and _name(n.func) not in _KEEPING for n in ast.walk(argument.slice)
        )
    if isinstance(argument, ast.UnaryOp):
        return not isinstance(argument.operand, ast.Constant)
    if isinstance(argument, ast.BinOp):
        return True
    if isinstance(argument, ast.Call):
        inner = [argument.func.value] if isinstance(argument.func, ast.Attribute) else []
        return _name(argument.func) not in _KEEPING or any(map(_is_computed, (*argument.args, *inner)))
    return False


def _strides(function: ast.AST) -> Iterator[int]:
    """Lines of `for i in range(0, n, size)`, by which batches are cut by hand."""
    for node in ast.walk(function):
        looped = node.iter if isinstance(node, ast.For) else None
        if isinstance(looped, ast.Call) and _name(looped.func) == "range" and len(looped.args) == 3:
            yield looped.lineno


def _steps(tree: ast.AST, guard: int | None = None) -> Iterator[tuple[int, str]]:
    """Calls `optimizer.step()`, each at the `if` that guards it or at its own line, and what is stepped."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step":
            receiver = _name(node.func.value)
            if _STEPPED.search(receiver):
                yield guard or node.lineno, receiver
        guarded = isinstance(node, ast.If) or (guard is not None and not isinstance(node, _SCOPES))
        yield from _steps(node, (node.lineno if isinstance(node, ast.If) else guard) if guarded else None)


def _own_statements(block: ast.AST) -> Iterator[ast.stmt]:
    """Statements without a body, outside nested functions."""
    for node in ast.iter_child_nodes(block):
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield node
        else:
            yield from _own_statements(node)


def _assigned(statement: ast.stmt) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [name for target in targets for name in map(_name, ast.walk(target)) if name]


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
