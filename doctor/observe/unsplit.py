"""Training data that is split off and not used: the data set of the training is made from the whole."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_TRAINING = re.compile(r"(^|_)(train|training|trn|fit)(_|$)", re.IGNORECASE)
_HELD_OUT = re.compile(r"(^|_)(test|val|valid|validation|dev|eval|held|heldout|holdout)(_|$)", re.IGNORECASE)
_WHOLE = re.compile(r"(^|_)(all|full|whole|final|total|test|val|valid|validation|dev|eval)(_|$)", re.IGNORECASE)
_MADE = re.compile(r"(dataset|loader)$", re.IGNORECASE)
# What a part may be called besides: no masks, numbers, losses or transforms.
_SAMPLES = re.compile(
    r"(train|training|trn|fit)?_?(x|y|set|data|df|frame|rows|records|history|histories|samples|texts|docs|sentences|pairs|images|"
    r"interactions|clicks|ratings|seqs|sequences|series|items|events|files|paths|part|split|examples|graphs|windows)?"
    r"_?(train|training|trn)?",
    re.IGNORECASE,
)
_SIZED = ("len", "range", "enumerate", "print", "int", "set", "sorted")


def find(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line of the data set or loader that is made from a whole, its name, and that of the training part split off it.

    The part feeds no data set itself, and a held-out part was split off the same whole in the same function.
    """
    sets = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and _is_dataset(n)}
    imported = {(alias.asname or alias.name).split(".")[0] for n in ast.walk(tree)
                if isinstance(n, ast.Import | ast.ImportFrom) for alias in n.names}  # fmt: skip
    for scope in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))]:
        statements = list(_statements(scope))
        calls = [
            (statement, call)
            for statement in statements
            for call in ast.walk(statement)
            if isinstance(call, ast.Call) and (_MADE.search(_name(call.func)) or _name(call.func) in sets)
        ]
        made = {id(statement) for statement, _ in calls}
        parts, held = _parts([s for s in statements if id(s) not in made], imported)
        fed = {name for _, call in calls for name in _plain_names(call)}
        for part, whole in parts.items():
            if part in fed or whole not in held:
                continue
            for statement, call in calls:
                if whole in _plain_names(call) and not _WHOLE.search(" ".join(_targets(statement))):
                    yield call.lineno, whole, part
                    break


def _parts(statements: list[ast.stmt], imported: set[str]) -> tuple[dict[str, str], set[str]]:
    """Training parts and the name that they are taken from; the names that held-out parts are taken from."""
    parts: dict[str, str] = {}
    held: set[str] = set()
    for statement in statements:
        if not isinstance(statement, ast.Assign):
            continue
        names = [name for name in _plain_names(statement.value) if name not in imported]
        wholes = [name for name in names if not _TRAINING.search(name) and not _HELD_OUT.search(name)]
        for target in _targets(statement):
            if wholes and _TRAINING.search(target) and _SAMPLES.fullmatch(target):
                parts.setdefault(target, wholes[0])
            elif wholes and _HELD_OUT.search(target):
                held.add(wholes[0])
    return parts, held


def _plain_names(node: ast.AST) -> list[str]:
    """Names whose values are used: not those that are called, reckoned with, asked for their length, or bound within."""
    called = {id(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
    called |= {id(a) for n in ast.walk(node) if isinstance(n, ast.Call) and _name(n.func) in _SIZED for a in n.args}
    bound = {part.id for n in ast.walk(node) if isinstance(n, ast.comprehension) for part in ast.walk(n.target)
             if isinstance(part, ast.Name)}  # fmt: skip
    called |= {id(n.left) for n in ast.walk(node) if isinstance(n, ast.BinOp)}
    called |= {id(n.right) for n in ast.walk(node) if isinstance(n, ast.BinOp)}
    indices = {id(part) for n in ast.walk(node) if isinstance(n, ast.Subscript) for part in ast.walk(n.slice)}
    return [
        n.id
        for n in ast.walk(node)
        if isinstance(n, ast.Name)
        and isinstance(n.ctx, ast.Load)
        and id(n) not in called | indices
        and n.id not in bound
    ]


def _targets(statement: ast.stmt) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _statements(scope: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield node
        else:
            yield from _statements(node)


def _is_dataset(node: ast.ClassDef) -> bool:
    return any(_name(base).endswith("Dataset") for base in node.bases)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
