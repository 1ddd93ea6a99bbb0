"""Which variable of the user's keeps old graphs alive, and the line on which it takes them up."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

from doctor.observe import graph
from doctor.observe.frames import UserFrames

_MOST_FRAMES = 6


def find(frames: UserFrames, nodes: set[int], least: int) -> dict[str, Any] | None:
    """The variable that holds at least `least` of these graph nodes (by sequence number), and its line."""
    best: tuple[int, dict[str, Any]] | None = None
    for frame in _user_frames(frames):
        for name, value in _variables(frame):
            if _count(value, nodes) < least:
                continue
            rank, line = _line(frame, name)
            path = frames.name(frame.f_code.co_filename)
            found = {"name": name, "line": [path, line, frame.f_code.co_name] if line else None}
            if rank and (best is None or rank < best[0]):
                best = (rank, found)
    return best[1] if best else None


def _user_frames(frames: UserFrames) -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    count = 0
    while frame is not None and count < _MOST_FRAMES:
        if frames.name(frame.f_code.co_filename) is not None:
            count += 1
            yield frame
        frame = frame.f_back


def _variables(frame: FrameType) -> Iterator[tuple[str, Any]]:
    for name, value in list(frame.f_locals.items()):
        yield name, value
        if name == "self" and hasattr(value, "__dict__"):
            for inner, held in list(vars(value).items()):
                yield f"self.{inner}", held


def _count(value: Any, nodes: set[int]) -> int:
    if isinstance(value, torch.Tensor):
        return len(graph.walk([value]).sequence_numbers & nodes) if value.grad_fn is not None else 0
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) or type(value).__name__ in ("deque", "set"):
        tensors = [part for part in list(value)[:200] if isinstance(part, torch.Tensor) and part.grad_fn is not None]
        return len(graph.walk(tensors).sequence_numbers & nodes) if tensors else 0
    return 0


def _line(frame: FrameType, name: str) -> tuple[int, int | None]:
    """How the variable is fed (1: added to or appended; 2: made from itself; 0: neither), and where."""
    try:
        tree = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except (SyntaxError, ValueError):
        return 0, None
    best: tuple[int, int | None] = (0, None)
    for node in _own(_scope(tree, frame)):
        rank = _feeds(node, name)
        if rank and (not best[0] or rank < best[0]):
            best = (rank, node.lineno)  # type: ignore[attr-defined]
    return best


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function or module without those of the functions in it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from _own(child)


def _scope(tree: ast.Module, frame: FrameType) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == frame.f_code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= frame.f_lineno <= (node.end_lineno or first):
                return node
    return tree


def _feeds(node: ast.AST, name: str) -> int:
    if isinstance(node, ast.AugAssign):
        target = node.target.value if isinstance(node.target, ast.Subscript) else node.target
        return int(ast.unparse(target) == name)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner = node.func.value
        owner = owner.value if isinstance(owner, ast.Subscript) else owner
        return int(node.func.attr in ("append", "extend", "add", "appendleft") and ast.unparse(owner) == name)
    if isinstance(node, ast.Assign):
        targets = {ast.unparse(part) for target in node.targets for part in _parts(target)}
        read = {ast.unparse(part) for part in ast.walk(node.value) if isinstance(part, ast.Name | ast.Attribute)}
        if name in targets and name in read:
            return 1 if isinstance(node.value, ast.BinOp) else 2
    return 0


def _parts(target: ast.expr) -> list[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        return [part for element in target.elts for part in _parts(element)]
    return [target]
