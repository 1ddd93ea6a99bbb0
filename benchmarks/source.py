"""A program's source as something to operate on: where its parts are, and edits that keep every line's number."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

OPTIMIZERS = frozenset({"SGD", "Adam", "AdamW", "RMSprop", "NAdam", "RAdam", "Adagrad", "LBFGS", "Adadelta"})
_Node = TypeVar("_Node", bound=ast.AST)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Module)


@dataclass(frozen=True)
class Edit:
    """Bytes `start` to `end` of the source become `text`."""

    start: int
    end: int
    text: str


class Source:
    """The text of one program, its syntax tree, and questions that fault operators ask of them."""

    def __init__(self, text: str) -> None:
        self.text = text if text.endswith("\n") else text + "\n"
        self.tree = ast.parse(self.text)
        self._bytes = self.text.encode()
        self._starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self.parents: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node

    # -- text and edits -----------------------------------------------------------------------------------------

    def of(self, node: ast.AST) -> str:
        """The source of one node."""
        if not hasattr(node, "lineno"):
            return ""
        start, end = self.span(node)
        return self._bytes[start:end].decode()

    def mentions(self, pattern: str) -> bool:
        """Whether the regular expression occurs."""
        return re.search(pattern, self.text) is not None

    def span(self, node: ast.AST) -> tuple[int, int]:
        """First and last byte of a node."""
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, end

    def replace(self, node: ast.AST, text: str) -> Edit:
        """An expression becomes `text`; lines that it loses are put into parentheses."""
        start, end = self.span(node)
        lost = self._bytes[start:end].count(b"\n") - text.count("\n")
        return Edit(start, end, "(" + text + "\n" * lost + ")" if lost > 0 else text)

    def wrap(self, node: ast.AST, before: str, after: str) -> tuple[Edit, ...]:
        """Text in front of a node and behind it."""
        start, end = self.span(node)
        return Edit(start, start, before), Edit(end, end, after)

    def behind(self, statement: ast.stmt, text: str) -> Edit:
        """A further simple statement on the last line of a simple one."""
        _, end = self.span(statement)
        return Edit(end, end, f"; {text}")

    def before(self, statement: ast.stmt, text: str) -> Edit:
        """A simple statement on the first line of another simple one."""
        start, _ = self.span(statement)
        return Edit(start, start, f"{text}; ")

    def keyword(self, call: ast.Call, name: str, value: str) -> Edit:
        """The keyword argument set, or added."""
        for keyword in call.keywords:
            if keyword.arg == name:
                return self.replace(keyword.value, value)
        _, end = self.span(call)
        inner = self._bytes[: end - 1].rstrip()
        comma = "" if inner.endswith(b"(") else " " if inner.endswith(b",") else ", "
        return Edit(len(inner), len(inner), f"{comma}{name}={value}")

    def without_keyword(self, call: ast.Call, name: str) -> Edit | None:
        """The keyword argument left out (by handing `**{}` instead, so that commas stay right)."""
        found = next((keyword for keyword in call.keywords if keyword.arg == name), None)
        return None if found is None else self.replace(found, "**{}")

    def edited(self, edits: Iterable[Edit]) -> str:
        """The text with all edits made; raises ValueError for edits that overlap or text that is no Python."""
        result, last = self._bytes, len(self._bytes) + 1
        for edit in sorted(edits, key=lambda e: (e.start, e.end), reverse=True):
            if edit.end > last:
                raise ValueError("edits overlap")
            result = result[: edit.start] + edit.text.encode() + result[edit.end :]
            last = edit.start
        text = result.decode()
        ast.parse(text)
        return text

    # -- nodes --------------------------------------------------------------------------------------------------

    def all(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        """All nodes of these kinds in the order of the text."""
        return (node for node in self._nodes if isinstance(node, kinds))

    @cached_property
    def _nodes(self) -> list[ast.AST]:
        nodes = ast.walk(self.tree)
        return sorted(nodes, key=lambda n: (getattr(n, "lineno", 0), getattr(n, "col_offset", 0)))

    @cached_property
    def _calls(self) -> list[tuple[str, ast.Call]]:
        return [(called(node), node) for node in self._nodes if isinstance(node, ast.Call)]

    def calls(self, *names: str) -> list[ast.Call]:
        """Calls of functions or methods with these last names."""
        return [call for name, call in self._calls if name in names]

    def scope(self, node: ast.AST) -> ast.AST:
        """The function or module around a node."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, _SCOPES):
                return node
        return self.tree

    def within(self, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
        """The nearest node of these kinds around a node."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, kinds):
                return node
        return None

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """The simple statement that a node belongs to."""
        while not isinstance(node, ast.stmt):
            if node not in self.parents or isinstance(node, ast.Lambda):
                return None
            node = self.parents[node]
        simple = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.Delete, ast.Assert)
        return node if isinstance(node, simple) else None

    def assigns(self, target: str) -> list[ast.Assign]:
        """Assignments to this target (as text), also as a part of a tuple."""
        found = []
        for node in self.all(ast.Assign):
            assert isinstance(node, ast.Assign)
            names = [self.of(part) for goal in node.targets for part in _parts(goal)]
            if target in names:
                found.append(node)
        return found

    def loops(self, node: ast.AST) -> list[ast.For | ast.While]:
        """Loops around a node within its function, the innermost first."""
        found: list[ast.For | ast.While] = []
        while node in self.parents and not isinstance(node, _SCOPES):
            node = self.parents[node]
            if isinstance(node, ast.For | ast.While):
                found.append(node)
        return found

    # -- the parts of a training program ------------------------------------------------------------------------

    @cached_property
    def optimizers(self) -> list[ast.Call]:
        """Where optimizers are made."""
        return [call for call in self.calls(*OPTIMIZERS) if call.args]

    @cached_property
    def optimizer_names(self) -> set[str]:
        """What they are called."""
        names: set[str] = set()
        for call in self.optimizers:
            parent = self.parents[call]
            if isinstance(parent, ast.Assign):
                names.update(self.of(goal) for goal in parent.targets)
        return names

    @cached_property
    def steps(self) -> list[ast.Call]:
        """Calls of an optimizer's step (never a scheduler's, never with a closure)."""
        return [
            call
            for call in self.calls("step")
            if not call.args and isinstance(call.func, ast.Attribute) and _is_optimizer(self.of(call.func.value), self)
        ]

    @cached_property
    def backwards(self) -> list[ast.Call]:
        """Calls of backward on a loss."""
        return [call for call in self.calls("backward") if isinstance(call.func, ast.Attribute)]

    @cached_property
    def losses(self) -> list[ast.Assign]:
        """For each backward on a name, the last assignment to that name before it in its function."""
        found = []
        for call in self.backwards:
            assert isinstance(call.func, ast.Attribute)
            name = self.of(call.func.value)
            own = [a for a in self.assigns(name) if self.scope(a) is self.scope(call) and a.lineno <= call.lineno]
            if own and own[-1] not in found and len(own[-1].targets) == 1 and isinstance(own[-1].targets[0], ast.Name):
                found.append(own[-1])
        return found

    @cached_property
    def models(self) -> list[tuple[str, ast.Call]]:
        """For each optimizer over `X.parameters()`: X and the call that makes the optimizer."""
        found = []
        for made in self.optimizers:
            for node in ast.walk(made):
                if isinstance(node, ast.Call) and called(node) == "parameters" and isinstance(node.func, ast.Attribute):
                    found.append((self.of(node.func.value), made))
                    break
        return found

    @cached_property
    def forwards(self) -> list[ast.FunctionDef]:
        """The forward methods."""
        return [
            node for node in self.all(ast.FunctionDef) if isinstance(node, ast.FunctionDef) and node.name == "forward"
        ]

    def learns_by_adam(self) -> bool:
        """Whether an optimizer that is indifferent to the scale of the loss is at work."""
        return self.mentions(r"Adam|RMSprop|Trainer\(")

    def lines_with(self, *words: str) -> tuple[int, ...]:
        """Numbers of the lines that hold one of these words."""
        return tuple(n for n, text in enumerate(self.text.splitlines(), 1) if any(word in text for word in words))


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def lines_of(nodes: Iterable[ast.AST]) -> tuple[int, ...]:
    """Every line that these nodes cover."""
    return tuple(
        sorted({n for node in nodes for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)})  # type: ignore[attr-defined]
    )


def each(nodes: Iterable[_Node], edit: Callable[[_Node], Edit | tuple[Edit, ...] | None]) -> list[Edit]:
    """The edits of every node."""
    edits: list[Edit] = []
    for node in nodes:
        made = edit(node)
        edits += [] if made is None else [made] if isinstance(made, Edit) else made
    return edits


def _parts(goal: ast.expr) -> list[ast.expr]:
    return (
        [part for element in goal.elts for part in _parts(element)]
        if isinstance(goal, ast.Tuple | ast.List)
        else [goal]
    )


def _is_optimizer(name: str, source: Source) -> bool:
    return name in source.optimizer_names or bool(re.search(r"(^|\.)(opt|optim)", name, re.IGNORECASE))
