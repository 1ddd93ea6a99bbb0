"""Sums, lists and metric objects of an evaluation that are never set back, read from the source of the running function.

Each evaluation then counts the samples of all evaluations before it, too.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from types import FrameType
from typing import Any

from doctor.observe.divisions import _value

_GROWS = ("append", "extend")
_CLEARS = ("clear", "reset", "zero_", "fill_", "pop")
_SUMMARIES = ("mean", "sum", "average", "median", "cat", "concatenate", "stack", "vstack", "hstack")
_SCORES = ("_score", "_error", "auc")
_Loop = ast.For | ast.While


def find(frame: FrameType) -> Iterator[dict[str, Any]]:
    """What the evaluation that runs in this frame adds up from one evaluation to the next.

    Each with its `name`, the `line` on which it is read, and `kind`: `sum`, `list` or `metric`.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except (SyntaxError, ValueError):
        return
    function = _function(tree, frame)
    yield from _in_loops(function or tree, frame.f_lineno)
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef) and function in owner.body:
            yield from _in_class(owner, function, frame)


def _function(tree: ast.Module, frame: FrameType) -> ast.FunctionDef | None:
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name == frame.f_code.co_name
        and node.lineno <= frame.f_lineno <= (node.end_lineno or node.lineno)
    ]
    return found[-1] if found else None


def _in_loops(scope: ast.AST, line: int) -> Iterator[dict[str, Any]]:
    """Names that grow in the loop over batches around this line, and begin outside the loop over epochs around that."""
    loops = [node for node in _own(scope) if isinstance(node, _Loop) and _holds(node, line)]
    for outer, inner in ((a, b) for a in loops for b in loops if a is not b and _holds(a, b.lineno)):
        within = list(ast.walk(outer))
        batches = set(map(id, ast.walk(inner)))
        for name, kind in _grown(list(ast.walk(inner))).items():
            if "." in name or _begun(within, name) or not _begun(list(_own(scope)), name):
                continue
            read = next((n for n in _summaries(within, name, kind) if id(n) not in batches), None)
            if read is not None:
                yield {"name": name, "line": read.lineno, "kind": kind}


def _in_class(owner: ast.ClassDef, function: ast.FunctionDef | None, frame: FrameType) -> Iterator[dict[str, Any]]:
    """Attributes that this method lets grow, that another one reads, and that nothing but the constructor begins."""
    if function is None or function.name == "__init__":
        return
    loop = next((node for node in _own(function) if isinstance(node, _Loop) and _holds(node, frame.f_lineno)), None)
    if loop is None and not function.name.endswith("_step"):
        return  # called once an evaluation: what it keeps is a history
    methods = [node for node in owner.body if isinstance(node, ast.FunctionDef)]
    others = [node for method in methods if method.name != "__init__" for node in ast.walk(method)]
    for name, kind in (_grown(list(ast.walk(loop or function))) | _updated(function, frame)).items():
        if not name.startswith("self.") or _begun(others, name) or _handed_on(others, name):
            continue
        read = next(_summaries(others, name, kind), None)
        if read is not None:
            yield {"name": name, "line": read.lineno, "kind": kind}


def _grown(nodes: list[ast.AST]) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in nodes:
        if (
            isinstance(node, ast.AugAssign)
            and isinstance(node.op, ast.Add)
            and not isinstance(node.value, ast.Constant)
        ):
            found.setdefault(ast.unparse(node.target), "list" if isinstance(node.value, ast.List) else "sum")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _GROWS:
            found.setdefault(ast.unparse(node.func.value), "list")
    return found


def _updated(function: ast.FunctionDef, frame: FrameType) -> dict[str, str]:
    """Metric objects of torchmetrics that are updated or called in this method."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = node.func
            owner = called.value if isinstance(called, ast.Attribute) and called.attr == "update" else called
            name = ast.unparse(owner)
            if name.startswith("self.") and _is_metric(_attribute(owner, frame)):
                found[name] = "metric"
    return found


def _attribute(node: ast.expr, frame: FrameType) -> Any:
    """The value of `self.a`; submodules lie apart from a module's other attributes."""
    value = _value(node, frame)
    if value is None and isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        value = getattr(owner, "__dict__", {}).get("_modules", {}).get(node.attr)
    return value


def _is_metric(value: Any) -> bool:
    return any(kind.__module__.startswith("torchmetrics") for kind in type(value).__mro__)


def _begun(nodes: list[ast.AST], name: str) -> bool:
    """Whether anything here gives this name a value that is new, or empties it."""
    for node in nodes:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CLEARS:
            targets = [node.func.value]
        parts = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name | ast.Attribute)]
        if any(ast.unparse(part) == name for part in parts):
            return True
    return False


def _handed_on(nodes: list[ast.AST], name: str) -> bool:
    """Whether the object itself is given away (to `self.log`, which sets it back; to whatever else may)."""
    for node in nodes:
        if not isinstance(node, ast.Call) or _scores(node) or _called(node) == "len":
            continue
        if any(ast.unparse(part) == name for part in (*node.args, *(keyword.value for keyword in node.keywords))):
            return True
    return False


def _scores(node: ast.Call) -> bool:
    return _called(node) in _SUMMARIES or _called(node).endswith(_SCORES)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _summaries(nodes: list[ast.AST], name: str, kind: str) -> Iterator[ast.expr]:
    """Where it is summed up: divided, computed, or (a list) given whole to a function."""
    for node in nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            found = kind == "sum" and any(ast.unparse(part) == name for part in ast.walk(node.left))
        elif isinstance(node, ast.Call):
            computed = kind == "metric" and ast.unparse(node.func) == f"{name}.compute"
            found = computed or (kind == "list" and name in map(ast.unparse, node.args) and _scores(node))
        else:
            continue
        if found:
            yield node


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything below, outside nested functions and classes."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield node
            yield from _own(node)


def _holds(node: _Loop, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
