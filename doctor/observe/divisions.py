"""What an evaluation divides by what, and compares with what, read from the source of the running function and the values
of its names.
"""

from __future__ import annotations

import ast
import linecache
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader, Dataset


def find(frame: FrameType) -> list[dict[str, Any]]:
    """Divisions of an accumulated metric by the number of batches or of samples, in the function of this frame."""
    nodes = nodes_of(frame)
    assigned = _assigned(nodes)
    sums: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            sums.setdefault(ast.unparse(node.target), set()).add(_kind(node.value, assigned))
    found = []
    for node in nodes:
        operands = _division(node)
        if operands is None:
            continue
        numerator = _core(operands[0])
        kinds = sums.get(numerator, set())
        count = assigned.get(ast.unparse(operands[1]), operands[1])
        counted = _counted(count, frame)
        if len(kinds) == 1 and counted is not None:
            found.append(
                {
                    "line": count.lineno,
                    "numerator": numerator,
                    "kind": next(iter(kinds)),
                    "denominator": ast.unparse(count),
                    "counts": counted[0],
                    "batch_size": counted[1],
                }
            )
    return found


def collapsed(frame: FrameType, line: int) -> list[dict[str, Any]]:
    """Comparisons of every label with one number, `argmax` over the whole output of a model: `(logits.argmax() == y).sum()`.

    The output is that of the call on this line of the frame's function, not one row of it that a loop took.
    """
    nodes = nodes_of(frame)
    assigned = _assigned(nodes)
    looped = {
        part.id
        for node in nodes
        if isinstance(node, ast.For | ast.comprehension)
        for part in ast.walk(node.target)
        if isinstance(part, ast.Name)
    }
    found = []
    for node in nodes:
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("sum", "mean")
        ):
            continue
        for compare in ast.walk(node):
            if not isinstance(compare, ast.Compare) or not isinstance(compare.ops[0], ast.Eq):
                continue
            for side in (compare.left, compare.comparators[0]):
                picked = assigned.get(side.id, side) if isinstance(side, ast.Name) else side
                scores = _over_everything(picked)
                if scores is not None and _is_output(scores, assigned, looped, line):
                    found.append({"line": picked.lineno, "text": ast.unparse(picked)})
    return found


def _over_everything(node: ast.expr) -> ast.expr | None:
    """What an `argmax` without an axis is taken of."""
    while (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("item", "cpu", "detach")
    ):
        node = node.func.value
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "argmax"):
        return None
    if node.keywords:
        return None
    if isinstance(node.func.value, ast.Name) and node.func.value.id in ("torch", "np", "numpy"):
        return node.args[0] if len(node.args) == 1 else None
    return None if node.args else node.func.value


def _is_output(node: ast.expr, assigned: dict[str, ast.expr], looped: set[str], line: int, depth: int = 0) -> bool:
    """Whether this is what the call on this line gave, or an attribute of it, whole: no row, no element."""
    if isinstance(node, ast.Name):
        known = assigned.get(node.id)
        if node.id in looped or known is None or depth >= 3:
            return False
        return _is_output(known, assigned, looped, line, depth + 1)
    if isinstance(node, ast.Attribute):
        return _is_output(node.value, assigned, looped, line, depth)
    if not isinstance(node, ast.Call):
        return False
    whole = ("softmax", "log_softmax", "sigmoid", "cpu", "detach", "numpy", "float")
    if isinstance(node.func, ast.Attribute) and node.func.attr in whole:
        inner = node.func.value
        if isinstance(inner, ast.Name) and inner.id in ("torch", "F") and node.args:
            inner = node.args[0]
        return _is_output(inner, assigned, looped, line, depth)
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def nodes_of(frame: FrameType) -> list[ast.AST]:
    """Everything in the running function, or in the module."""
    try:
        tree = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except (SyntaxError, ValueError):
        return []
    scope = next(
        (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == frame.f_code.co_name
            and node.lineno <= frame.f_lineno <= (node.end_lineno or node.lineno)
        ),
        None,
    )
    return list(ast.walk(scope if scope is not None else tree))


def _assigned(nodes: list[ast.AST]) -> dict[str, ast.expr]:
    """What names were given, the last of several; that of `a, b = f()` for both."""
    found: dict[str, ast.expr] = {}
    for node in nodes:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(parts)
            found |= {ast.unparse(part): value for part, value in zip(parts, values, strict=False)}
    return found


def _division(node: ast.AST) -> tuple[ast.expr, ast.expr] | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return node.left, node.right
    return None


def _core(node: ast.expr) -> str:
    """`100.0 * correct` and `float(correct)` and `correct.item()` are `correct`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        constants = [part for part in (node.left, node.right) if not isinstance(part, ast.Constant)]
        return _core(constants[0]) if len(constants) == 1 else ast.unparse(node)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in ("float", "int") and node.args:
            return _core(node.args[0])
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("item", "double", "float") and not node.args:
            return _core(node.func.value)
    return ast.unparse(node)


def _kind(value: ast.expr, assigned: dict[str, ast.expr], depth: int = 0) -> str:
    """`correct` (a number of samples), `mean` (of a batch), `loss-sum`, `loss-mean`, or ``."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "item":
        return _kind(value.func.value, assigned, depth)
    if isinstance(value, ast.Name) and value.id in assigned and depth < 3:
        inner = _kind(assigned[value.id], assigned, depth + 1)
        if inner:
            return inner
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
        inner = next((_kind(part, assigned, depth) for part in (value.left, value.right) if _is_loss(part)), "")
        return "loss-sum" if inner and any(_is_size(part) for part in (value.left, value.right)) else ""
    text = ast.unparse(value)
    compares = any(isinstance(part, ast.Compare) and isinstance(part.ops[0], ast.Eq) for part in ast.walk(value))
    compares |= ".eq(" in text or "torch.eq(" in text
    if compares and isinstance(value, ast.Call):
        outer = text.rstrip(")").rsplit(".", 1)[-1]
        outer = value.func.attr if isinstance(value.func, ast.Attribute) else outer
        return {"sum": "correct", "mean": "mean"}.get(
            outer, "correct" if ".sum(" in text and ".mean(" not in text else ""
        )
    if _is_loss(value) and isinstance(value, ast.Call):
        return "loss-sum" if "reduction='sum'" in text else ("loss-mean" if "reduction" not in text else "")
    return ""


def _is_loss(node: ast.AST) -> bool:
    text = ast.unparse(node).lower()
    return any(word in text for word in ("loss", "criterion", "cross_entropy"))


def _is_size(node: ast.AST) -> bool:
    text = ast.unparse(node)
    return text.startswith("len(") or ".size(0)" in text or ".shape[0]" in text or "batch_size" in text


def _counted(node: ast.expr, frame: FrameType) -> tuple[str, int] | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len" and node.args):
        return None
    value = _value(node.args[0], frame)
    if isinstance(value, DataLoader):
        return "batches", value.batch_size or 1
    if isinstance(value, Dataset):
        return "samples", 1
    return None


def _value(node: ast.expr, frame: FrameType) -> Any:
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        return getattr(owner, "__dict__", {}).get(node.attr) if owner is not None else None
    return None
