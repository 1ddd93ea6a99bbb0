"""The stack, marks and memo of the pickle machine, and what it holds instead of objects: names stay names, calls calls."""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = object()
_MOST_REMEMBERED = 1 << 32  # the C machine's memo is an array: no pickler writes such an index
CUT = "the bytes of the stream"  # how the fault of a stream ends that was cut off


class PickleFault(Exception):
    """The stream cannot be followed further; the message says why and where."""


@dataclass(eq=False, slots=True)
class Global:
    """A name that the stream asks for."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """Module and name, dotted."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Call:
    """A call that the real machine would make: of a function (REDUCE) or of a class; what was put into its result."""

    function: Any
    arguments: Any
    opcode: str
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Persistent:
    """An object outside the stream, by its identity: a tensor's storage."""

    identity: Any


@dataclass(eq=False, slots=True)
class Table:
    """A dict; keys that cannot be hashed are left out."""

    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Use:
    """One name in a stream: by which opcode, and at which byte."""

    path: str
    opcode: str
    position: int


@dataclass
class Walk:
    """One stream followed to its STOP or to its fault. `end` is the offset after it."""

    start: int
    end: int = 0
    opcodes: int = 0
    protocol: int = 0
    value: Any = None
    names: list[Use] = field(default_factory=list)
    calls: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # opcodes that weights-only loading lacks: first position
    fault: str | None = None
    embedded: list[bytes] = field(default_factory=list)
    tricks: list[str] = field(default_factory=list)


class Machine:
    """The state while a stream is followed; `at` is the offset of the next byte."""

    def __init__(self, at: int, walk: Walk) -> None:
        self.at, self.walk = at, walk
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def cut(self) -> list[Any]:
        """The items since the last mark."""
        if not self.marks:
            raise PickleFault(f"no mark before byte {self.at}")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def named(self, module: Any, name: Any, opcode: str, position: int) -> None:
        """Push a name and note it."""
        if not isinstance(module, str) or not isinstance(name, str):
            module, name = "<computed>", "<computed>"
        elif (module, name) in NAME_MAPPING:  # what Python 2 called otherwise, as every loader reads it
            module, name = NAME_MAPPING[module, name]
        else:
            module = IMPORT_MAPPING.get(module, module)
        if len(self.walk.names) < 100_000:
            self.walk.names.append(Use(f"{module}.{name}"[:300], opcode, position))
        self.stack.append(Global(module, name))

    def trick(self, what: str, position: int) -> None:
        """Note a use of the machine that weights-only loading refuses."""
        if len(self.walk.tricks) < 100:
            self.walk.tricks.append(f"{what} at byte {position}")

    def called(self, function: Any, arguments: Any, opcode: str, position: int) -> None:
        """Push the result of a call."""
        self.walk.calls += 1
        if not isinstance(function, Global):
            self.trick("a call of what is no name", position)
        self.stack.append(Call(function, arguments, opcode))

    def remember(self, index: Any) -> None:
        """Memoise the top of the stack."""
        if not isinstance(index, int) or not 0 <= index < _MOST_REMEMBERED:
            raise PickleFault(f"a memo index that is none before byte {self.at}")
        self.memo[index] = self.stack[-1]

    def recall(self, index: Any) -> None:
        """Push from the memo."""
        if index not in self.memo:
            raise PickleFault(f"memo entry {index} is fetched before byte {self.at} and was never put")
        self.stack.append(self.memo[index])
