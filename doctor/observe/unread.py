"""Held-out data that a running function, or the module, makes and never reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from types import FrameType

from doctor.observe.divisions import nodes_of

_SPLIT = "test|val|valid|validation|dev|holdout|heldout"
_DATA = "x|y|set|data|dataset|loader|dl|ds|images|labels|inputs|targets|features|texts|samples|rows"
_HELD_OUT = re.compile(rf"(({_DATA})_)?({_SPLIT})(_?({_DATA}))?", re.IGNORECASE)
_MEASURED = ("shape", "size", "ndim", "dtype")
_TRAINING_SCORE = re.compile(r"train\w*[ _-]?(acc|score|err|auc|f1)", re.IGNORECASE)


def held_out(frame: FrameType) -> list[str]:
    """Names of test or validation data in the code of this frame that nothing but their own preparation reads.

    Empty where the code speaks of a training accuracy or score: then the training samples are evaluated on purpose.
    """
    nodes = nodes_of(frame)
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    named = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    stored = {name for name in named if _HELD_OUT.fullmatch(name)}
    if not stored or any(_TRAINING_SCORE.search(text) for text in _texts(nodes)):
        return []
    excused = {id(name) for node in nodes for name in _not_used(node, stored)}
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and id(n) not in excused}
    return sorted(stored - read)


def _not_used(node: ast.AST, names: set[str]) -> Iterator[ast.Name]:
    """Names that a statement reads to prepare held-out data, or asks for their length or shape only."""
    parts: list[ast.AST] = []
    if isinstance(node, ast.Assign):
        targets = {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        parts = [node.value] if targets & names else []
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        parts = list(node.args)
    elif isinstance(node, ast.Attribute) and node.attr in _MEASURED:
        parts = [node.value]
    for part in parts:
        yield from (n for n in ast.walk(part) if isinstance(n, ast.Name))


def _texts(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
