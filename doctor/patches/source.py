"""The user's files as concrete syntax trees, and the places in them where a change is made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from doctor.errors import DoctorError

_N = TypeVar("_N", bound=cst.CSTNode)
_BOM = b"\xef\xbb\xbf"
Statement = cst.SimpleStatementLine | cst.SimpleStatementSuite | cst.BaseCompoundStatement


class CannotEdit(DoctorError):
    """The source is not written in a way that this edit knows."""


class Source:
    """One file: its tree, with the lines and parents of all nodes."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = data
        self._bom = _BOM if data.startswith(_BOM) else b""
        try:
            module = cst.parse_module(data)
        except Exception as failure:  # libcst raises its own error, UnicodeDecodeError and LookupError
            raise CannotEdit(f"{path.name} cannot be parsed: {failure}") from None
        if self._encoded(module) != data:
            raise CannotEdit(f"{path.name} is not given back exactly by the parser")
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        self.module = wrapper.module
        self._positions: Any = wrapper.resolve(PositionProvider)
        self._parents: Any = wrapper.resolve(ParentNodeProvider)
        self._all: tuple[cst.CSTNode, ...] = tuple(_walk(self.module))

    @property
    def text(self) -> str:
        """The file as text, with its own line ends."""
        return self.decoded(self.data)

    def decoded(self, data: bytes) -> str:
        """Content of this file as text."""
        return data.removeprefix(self._bom).decode(self.module.encoding)

    def _encoded(self, module: cst.Module) -> bytes:
        data = module.bytes
        return data if data.startswith(self._bom) else self._bom + data

    def changed(self, changes: Changes) -> bytes:
        """The content after these changes."""
        module = self.module.visit(changes)
        assert isinstance(module, cst.Module)
        return self._encoded(module)

    # -- what is where ------------------------------------------------------------------------------------------

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """First and last line of a node."""
        place = self._positions[node]
        return place.start.line, place.end.line

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The node above."""
        found: cst.CSTNode | None = self._parents.get(node)
        return found

    def above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The nodes above, from the inside out."""
        up = self.parent(node)
        while up is not None:
            yield up
            up = self.parent(up)

    def walk(self, under: cst.CSTNode | None = None) -> Iterator[cst.CSTNode]:
        """All nodes, in the order of the text."""
        yield from self._all if under is None else _walk(under)

    def nodes(self, kind: type[_N], under: cst.CSTNode | None = None) -> Iterator[_N]:
        """All nodes of a kind, in the order of the text."""
        for node in self.walk(under):
            if isinstance(node, kind):
                yield node

    def statement(self, node: cst.CSTNode) -> Statement:
        """The innermost statement that holds a node."""
        for up in (node, *self.above(node)):
            if isinstance(up, Statement):
                return up
        raise CannotEdit("no statement there")

    def in_block(self, node: cst.CSTNode) -> tuple[cst.CSTNode, cst.CSTNode]:
        """The innermost statement that holds a node and stands in a block, and the block (or module, or suite)."""
        inner = node
        for up in self.above(node):
            if isinstance(up, cst.Module | cst.IndentedBlock | cst.SimpleStatementSuite):
                return inner, up
            inner = up
        raise CannotEdit("no block there")

    def at(self, line: int, kind: type[_N]) -> list[_N]:
        """Nodes of a kind that belong to the statement on a line: those that begin on it first, then the outermost."""
        holding = [node for node in self._all if isinstance(node, Statement) and self._holds(node, line)]
        for statement in sorted(holding, key=lambda node: self.span(node)[1] - self.span(node)[0]):
            found = [node for node in self.nodes(kind, statement) if self.statement(node) is statement]
            # A line of a long statement: what the line lies in, or the statement as a whole.
            near = [node for node in found if self._holds(node, line)] or found
            if near:
                return sorted(near, key=lambda node: self.span(node)[0] != line)
        return []

    def _holds(self, node: cst.CSTNode, line: int) -> bool:
        first, last = self.span(node)
        return first <= line <= last

    def function(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        """The function around a node."""
        return next((up for up in self.above(node) if isinstance(up, cst.FunctionDef)), None)

    def class_(self, node: cst.CSTNode) -> cst.ClassDef | None:
        """The class around a node."""
        return next((up for up in self.above(node) if isinstance(up, cst.ClassDef)), None)

    def code(self, node: cst.CSTNode) -> str:
        """The text of a node."""
        return self.module.code_for_node(node)

    def imports(self) -> dict[str, str]:
        """Names that imports bind, and what they stand for (`F`: `torch.nn.functional`)."""
        bound: dict[str, str] = {}
        for one in self.nodes(cst.Import):
            for alias in one.names:
                name = dotted(alias.name)
                bound[str(alias.evaluated_alias or name.partition(".")[0])] = (
                    name if alias.asname else name.partition(".")[0]
                )
        for many in self.nodes(cst.ImportFrom):
            base = "." * len(many.relative) + (dotted(many.module) if many.module else "")
            for alias in many.names if not isinstance(many.names, cst.ImportStar) else ():
                bound[str(alias.evaluated_alias or alias.evaluated_name)] = f"{base}.{alias.evaluated_name}"
        return bound

    def spelt(self, full: str) -> str:
        """How this file can write a name of torch: `nn.ReLU` for `torch.nn.ReLU` where `nn` is imported."""
        best = ""
        for bound, name in self.imports().items():
            if name == full or full.startswith(f"{name}."):
                written = bound + full[len(name) :]
                best = min(best or written, written, key=len)
        if not best:
            raise CannotEdit(f"{full} cannot be named in {self.path.name}, which imports nothing of it")
        return best


class Project:
    """The user's files, read once, with the changes made so far in place of what is on disk."""

    def __init__(self, folder: Path | None = None, current: dict[Path, bytes] | None = None) -> None:
        self.folder = folder or Path.cwd()
        self.current = current or {}
        self._read: dict[Path, Source] = {}

    def open(self, path: str) -> Source:
        """The source of a path as evidence names it; raises CannotEdit."""
        real = (self.folder / path).resolve()
        if real not in self._read:
            try:
                data = self.current[real] if real in self.current else real.read_bytes()
            except OSError as failure:
                raise CannotEdit(f"{path} cannot be read: {failure.strerror}") from None
            self._read[real] = Source(real, data)
        return self._read[real]

    def line(self, path: str, line: int) -> int:
        """Where a line of the file on disk is now."""
        real = (self.folder / path).resolve()
        if real not in self.current:
            return line
        old, new = (data.split(b"\n") for data in (real.read_bytes(), self.current[real]))
        for tag, i1, i2, j1, _ in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if i1 < line <= i2:
                return j1 + (line - i1 if tag == "equal" else 1)
        return line

    def imported(self, source: Source, name: str) -> tuple[Source, str] | None:
        """The file beside this one from which it imports a name, and the name there."""
        full = source.imports().get(name)
        if full is None:
            return None
        module, _, inner = full.lstrip(".").rpartition(".")
        for parts in ((source.path.parent, module), (source.path.parent.parent, module)):
            path = parts[0].joinpath(*parts[1].split(".")).with_suffix(".py")
            if module and path.is_file():
                try:
                    return self.open(str(path)), inner
                except CannotEdit:
                    return None
        return None

    def near(self, source: Source) -> list[Source]:
        """This file and those beside it from which it imports something."""
        found = [source]
        for name in source.imports():
            other = self.imported(source, name)
            if other is not None and other[0] not in found:
                found.append(other[0])
        return found


Change = Callable[[Any], Any]


class Changes(cst.CSTTransformer):
    """Changes of one file, by the nodes of its tree."""

    def __init__(self) -> None:
        super().__init__()
        self.replaced: dict[cst.CSTNode, Change] = {}
        self.before: dict[cst.CSTNode, list[cst.CSTNode]] = {}
        self.after: dict[cst.CSTNode, list[cst.CSTNode]] = {}

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        """Make what is due at this node."""
        change = self.replaced.get(original_node)
        node = change(updated_node) if change else updated_node
        before, after = self.before.get(original_node, []), self.after.get(original_node, [])
        if isinstance(node, cst.RemovalSentinel | cst.FlattenSentinel) or not (before or after):
            return node
        if isinstance(node, cst.BaseSmallStatement):
            return cst.FlattenSentinel(_joined([*before, node, *after], node.semicolon))
        if before and hasattr(node, "leading_lines"):
            first, node = _with_blank_lines_of(before[0], node)
            before = [first, *before[1:]]
        return cst.FlattenSentinel([*before, node, *after])


def _joined(parts: list[Any], last: Any) -> list[Any]:
    join = cst.Semicolon(whitespace_after=cst.SimpleWhitespace(" "))
    return [*(part.with_changes(semicolon=join) for part in parts[:-1]), parts[-1].with_changes(semicolon=last)]


def _with_blank_lines_of(first: Any, node: Any) -> tuple[Any, Any]:
    """Blank lines above a statement stay above what is put before it; its comments stay with it."""
    lines = list(node.leading_lines)
    count = next((i for i, line in enumerate(lines) if line.comment is not None), len(lines))
    return first.with_changes(leading_lines=lines[:count]), node.with_changes(leading_lines=lines[count:])


@dataclass
class Site:
    """Where an edit is made, and the changes collected so far."""

    project: Project
    source: Source
    line: int
    module: str = ""
    changes: dict[Source, Changes] = field(default_factory=dict)

    def of(self, source: Source) -> Changes:
        """The changes of a file."""
        return self.changes.setdefault(source, Changes())

    def replace(self, node: cst.CSTNode, new: cst.CSTNode | Change, source: Source | None = None) -> None:
        """Put a node, or what a function makes of the updated one, in the place of another."""
        self.of(source or self.source).replaced[node] = new if not isinstance(new, cst.CSTNode) else lambda _: new

    def insert(self, code: str, node: cst.CSTNode, *, after: bool = False, source: Source | None = None) -> None:
        """Put a simple statement before or after the statement that holds a node."""
        source = source or self.source
        statement, block = source.in_block(node)
        new: cst.CSTNode = cst.parse_statement(code, source.module.config_for_parsing)
        if isinstance(block, cst.SimpleStatementSuite):
            assert isinstance(new, cst.SimpleStatementLine)
            new = new.body[0]
        changes = self.of(source)
        (changes.after if after else changes.before).setdefault(statement, []).append(new)

    def remove(self, node: cst.CSTNode, source: Source | None = None) -> None:
        """Take a node away."""
        self.of(source or self.source).replaced[node] = lambda _: cst.RemoveFromParent()

    def results(self) -> dict[Path, bytes]:
        """The new contents; raises CannotEdit when nothing changes or the result is no Python."""
        contents = {source.path: source.changed(changes) for source, changes in self.changes.items()}
        contents = {path: new for path, new in contents.items() if new != self.project.open(str(path)).data}
        if not contents:
            raise CannotEdit("the source has this already")
        for path, new in contents.items():
            try:
                compile(new, path.name, "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as failure:
                raise CannotEdit(f"the edit of {path.name} would not compile: {failure}") from None
        return contents


# -- small questions about nodes ----------------------------------------------------------------------------------


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def dotted(node: cst.CSTNode | None) -> str:
    """`torch.optim.Adam` of a name or attribute; empty for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr.value}" if base else ""
    return ""


def last_name(node: cst.CSTNode) -> str:
    """`Adam` of whatever is called `.Adam`."""
    return node.attr.value if isinstance(node, cst.Attribute) else dotted(node)


def called(call: cst.Call) -> str:
    """The last name of the called function."""
    return last_name(call.func)


def argument(call: cst.Call, keyword: str, position: int | None) -> cst.Arg | None:
    """The argument of this keyword or, if it may be given without, at this position."""
    for arg in call.args:
        if arg.keyword is not None and arg.keyword.value == keyword:
            return arg
    if position is None or position >= len(call.args):
        return None
    if any(arg.star or arg.keyword for arg in call.args[: position + 1]):
        return None
    return call.args[position]


def constant(node: cst.CSTNode) -> bool:
    """Whether a node is a number, a truth value, None, or a tuple of such."""
    if isinstance(node, cst.UnaryOperation):
        return constant(node.expression)
    if isinstance(node, cst.Tuple):
        return all(constant(element.value) for element in node.elements)
    return isinstance(node, cst.Integer | cst.Float) or (
        isinstance(node, cst.Name) and node.value in ("True", "False", "None")
    )


def expression(code: str) -> cst.BaseExpression:
    """The node of an expression."""
    return cst.parse_expression(code)


def operand(node: cst.BaseExpression) -> cst.BaseExpression:
    """The node with parentheses around where a method shall be called on it."""
    plain = isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript)
    if plain or node.lpar:
        return node
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def with_method(node: cst.BaseExpression, method: str) -> cst.BaseExpression:
    """`node.method`, the method given with its arguments."""
    made = expression(f"x.{method}")
    assert isinstance(made, cst.Call)
    func = cst.ensure_type(made.func, cst.Attribute)
    return made.with_changes(func=func.with_changes(value=operand(node)))
