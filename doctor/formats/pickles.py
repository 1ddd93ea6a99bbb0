"""A pickle machine that computes what a stream would build without building it: names stay names, calls stay calls.

It follows every opcode of every protocol with a stack, marks and a memo as the real machine has them, so that a name
put together on the stack or fetched from the memo is seen. What it cannot follow to the end is a fault of the stream.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_OPCODES = 5_000_000
_MAX_DIGITS = 4096  # of a number written in decimals: longer ones cost quadratic time
# The opcodes that PyTorch's weights-only machine implements (torch._weights_only_unpickler, PyTorch 2.13).
WEIGHTS_ONLY = frozenset(
    [
        "GLOBAL",
        "NEWOBJ",
        "REDUCE",
        "BUILD",
        "APPEND",
        "APPENDS",
        "SETITEM",
        "SETITEMS",
        "MARK",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "NONE",
        "NEWFALSE",
        "NEWTRUE",
        "EMPTY_TUPLE",
        "EMPTY_LIST",
        "EMPTY_DICT",
        "EMPTY_SET",
        "BININT",
        "BININT1",
        "BININT2",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINSTRING",
        "BINPERSID",
        "BINGET",
        "LONG_BINGET",
        "BINPUT",
        "LONG_BINPUT",
        "LONG1",
        "PROTO",
        "STOP",
    ]
)


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


_UNKNOWN = object()
_ARGUMENTS = {op.code.encode("latin1")[0]: op.arg.name if op.arg else "" for op in pickletools.opcodes}
_NAMES = {op.code.encode("latin1")[0]: op.name for op in pickletools.opcodes}
_FIXED = {
    "uint1": struct.Struct("<B"),
    "uint2": struct.Struct("<H"),
    "int4": struct.Struct("<i"),
    "uint4": struct.Struct("<I"),
    "uint8": struct.Struct("<Q"),
    "float8": struct.Struct(">d"),
}
_COUNTED = {
    "string1": 1,
    "string4": 4,
    "bytes1": 1,
    "bytes4": 4,
    "bytes8": 8,
    "bytearray8": 8,
    "unicodestring1": 1,
    "unicodestring4": 4,
    "unicodestring8": 8,
    "long1": 1,
    "long4": 4,
}


def begins_as_pickle(head: bytes) -> bool:
    """Whether these bytes begin like a pickle of protocol 0 or 1: a few opcodes that make sense in this order."""
    if not head or head[0] not in b"(c}])]lditNIVSUXGKJM.":
        return False
    walk = follow(head, limit=200)
    complete = walk.fault is None and (walk.names or walk.opcodes > 2)
    return bool(complete or (walk.opcodes >= 8 and "bytes of the stream" in (walk.fault or "")) or _dotted(walk))


def _dotted(walk: Walk) -> bool:
    return any(part.isidentifier() for use in walk.names[:1] for part in use.path.split(".")[:1])


def follow(data: bytes, start: int = 0, limit: int = MAX_OPCODES) -> Walk:
    """Follow one stream from `start`."""
    walk = Walk(start)
    machine = _Machine(data, start, walk)
    try:
        machine.run(limit)
    except PickleFault as fault:
        walk.fault = str(fault)
    except (RecursionError, MemoryError) as failure:
        walk.fault = f"{type(failure).__name__} at byte {machine.at}"
    walk.end = machine.at
    return walk


class _Machine:
    def __init__(self, data: bytes, start: int, walk: Walk) -> None:
        self.data, self.at, self.walk = data, start, walk
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, limit: int) -> None:
        data, walk = self.data, self.walk
        while walk.opcodes < limit:
            if self.at >= len(data):
                raise PickleFault(f"it ends without STOP after the {len(data)} bytes of the stream")
            code, position = data[self.at], self.at
            self.at += 1
            name = _NAMES.get(code)
            if name is None:
                raise PickleFault(f"byte {code:#04x} at {position} is no opcode")
            walk.opcodes += 1
            if name not in WEIGHTS_ONLY:
                walk.refused.setdefault(name, position)
            argument = self._argument(_ARGUMENTS[code], position)
            try:
                if name == "STOP":
                    walk.value = self.stack.pop()
                    return
                self._step(name, argument, position)
            except IndexError:
                raise PickleFault(f"{name} at byte {position} takes more from the stack than there is") from None
        raise PickleFault(f"more than {limit} opcodes")

    def _argument(self, kind: str, position: int) -> Any:
        if not kind:
            return None
        if kind in _FIXED:
            return _FIXED[kind].unpack(self._take(_FIXED[kind].size, position))[0]
        if kind in _COUNTED:
            size = _COUNTED[kind]
            count = int.from_bytes(self._take(size, position), "little", signed=kind in ("string4", "long4"))
            if count < 0:
                raise PickleFault(f"a negative length at byte {position}")
            content = self._take(count, position)
            if kind.startswith("unicode"):
                return content.decode("utf-8", "surrogatepass" if _sound(content) else "backslashreplace")
            if kind.startswith("long"):
                return int.from_bytes(content, "little", signed=True) if count <= _MAX_DIGITS else _UNKNOWN
            return content
        line = self._line(position)
        if kind == "stringnl_noescape_pair":
            return line.decode("utf-8", "backslashreplace"), self._line(position).decode("utf-8", "backslashreplace")
        return _literal(kind, line, position)

    def _take(self, count: int, position: int) -> bytes:
        if count > len(self.data) - self.at:
            raise PickleFault(f"the opcode at byte {position} needs {count} bytes beyond the bytes of the stream")
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def _line(self, position: int) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise PickleFault(f"the line of the opcode at byte {position} does not end within the bytes of the stream")
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def _step(self, name: str, argument: Any, position: int) -> None:
        simple = _CONSTANTS.get(name)
        if simple is not None:
            self.stack.append(simple())
        elif name in _PUSHED:
            self.stack.append(argument)
            if isinstance(argument, bytes) and len(argument) > 3 and len(self.walk.embedded) < 1000:
                self.walk.embedded.append(argument)
        else:
            handler: Callable[[_Machine, Any, int], None] | None = _HANDLERS.get(name)
            if handler is None:
                raise PickleFault(f"{name} at byte {position} is not followed")
            handler(self, argument, position)

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
        if not isinstance(index, int) or index < 0:
            raise PickleFault(f"a memo index that is none before byte {self.at}")
        self.memo[index] = self.stack[-1]

    def recall(self, index: Any) -> None:
        """Push from the memo."""
        if index not in self.memo:
            raise PickleFault(f"memo entry {index} is fetched before byte {self.at} and was never put")
        self.stack.append(self.memo[index])


def _sound(content: bytes) -> bool:
    try:
        content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _literal(kind: str, line: bytes, position: int) -> Any:
    text = line.decode("latin1")
    if kind in ("decimalnl_short", "decimalnl_long", "floatnl"):
        if len(text) > _MAX_DIGITS:
            raise PickleFault(f"a number of {len(text)} digits at byte {position}")
        if kind == "decimalnl_short" and text in ("00", "01"):
            return text == "01"
        try:
            return float(text) if kind == "floatnl" else int(text.rstrip("L") or "0", 0)
        except ValueError:
            try:
                return int(text)
            except ValueError:
                raise PickleFault(f"{text[:20]!r} at byte {position} is no number") from None
    if kind == "stringnl" and len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        try:
            return codecs.escape_decode(line[1:-1])[0].decode("latin1")
        except ValueError:
            return text[1:-1]
    if kind == "unicodestringnl":
        return line.decode("raw-unicode-escape", "backslashreplace")
    return text


def _put(target: Any, key: Any, value: Any) -> None:
    items = target.items if isinstance(target, Table | Call) else None
    if items is None:
        return
    try:
        items[key] = value
    except TypeError:
        items[id(key)] = value


def _set_item(machine: _Machine, _: Any, __: int) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _put(machine.stack[-1], key, value)


def _set_items(machine: _Machine, _: Any, __: int) -> None:
    items = machine.cut()
    for index in range(0, len(items) - 1, 2):
        _put(machine.stack[-1], items[index], items[index + 1])


def _extend(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Call):
        target.elements.extend(items)


def _append(machine: _Machine, _: Any, __: int) -> None:
    item = machine.stack.pop()
    _extend(machine, [item])


def _mark(machine: _Machine, _: Any, __: int) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _tuple(count: int) -> Callable[[_Machine, Any, int], None]:
    def push(machine: _Machine, _: Any, __: int) -> None:
        if len(machine.stack) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return push


def _dict(machine: _Machine, _: Any, __: int) -> None:
    items, table = machine.cut(), Table()
    for index in range(0, len(items) - 1, 2):
        _put(table, items[index], items[index + 1])
    machine.stack.append(table)


def _reduce(machine: _Machine, _: Any, position: int) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.called(function, arguments, "REDUCE", position)


def _new(machine: _Machine, _: Any, position: int) -> None:
    arguments, kind = machine.stack.pop(), machine.stack.pop()
    machine.called(kind, arguments, "NEWOBJ", position)


def _new_with_keywords(machine: _Machine, _: Any, position: int) -> None:
    keywords, arguments, kind = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.called(kind, (arguments, keywords), "NEWOBJ_EX", position)


def _instance(machine: _Machine, argument: Any, position: int) -> None:
    items = machine.cut()
    module, name = argument
    machine.named(module, name, "INST", position)
    machine.called(machine.stack.pop(), tuple(items), "INST", position)


def _object(machine: _Machine, _: Any, position: int) -> None:
    items = machine.cut()
    machine.called(items.pop(0), tuple(items), "OBJ", position)


def _build(machine: _Machine, _: Any, position: int) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, Call):
        target.state = state
    else:
        machine.trick("a state set on what is no new object", position)


def _stack_global(machine: _Machine, _: Any, position: int) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.named(module, name, "STACK_GLOBAL", position)


def _persistent(machine: _Machine, argument: Any, position: int) -> None:
    identity = machine.stack.pop() if argument is None else argument
    first = identity[0] if isinstance(identity, tuple) and identity else identity
    number = isinstance(identity, int) or (isinstance(identity, str) and identity.isdigit())
    if first not in ("storage", b"storage") and not number:
        machine.trick("a persistent id that is no storage", position)
    source = isinstance(identity, tuple) and len(identity) > 1 and first in ("module", b"module")
    machine.stack.append(identity[1] if source else Persistent(identity))


def _protocol(machine: _Machine, argument: int, position: int) -> None:
    if argument > 5:
        raise PickleFault(f"protocol {argument} at byte {position} does not exist")
    machine.walk.protocol = argument


def _pop(machine: _Machine, _: Any, __: int) -> None:
    # The C machine lets POP drop a mark when the stack above it is empty.
    if machine.stack or not machine.marks:
        machine.stack.pop()
    else:
        machine.stack = machine.marks.pop()


def _forget(machine: _Machine, _: Any, __: int) -> None:
    machine.cut()


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": Table,
    "EMPTY_SET": list,
    "NEXT_BUFFER": lambda: _UNKNOWN,
}
_PUSHED = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "FLOAT",
        "BINFLOAT",
    ]
)
_HANDLERS: dict[str, Callable[[_Machine, Any, int], None]] = {
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPEND": _append,
    "APPENDS": lambda machine, _, __: _extend_cut(machine),
    "ADDITEMS": lambda machine, _, __: _extend_cut(machine),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _forget,
    "DUP": lambda machine, _, __: machine.stack.append(machine.stack[-1]),
    "TUPLE": lambda machine, _, __: _cut_as(machine, tuple),
    "LIST": lambda machine, _, __: _cut_as(machine, list),
    "FROZENSET": lambda machine, _, __: _cut_as(machine, tuple),
    "DICT": _dict,
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "GLOBAL": lambda machine, pair, position: machine.named(pair[0], pair[1], "GLOBAL", position),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new,
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _build,
    "EXT1": lambda machine, code, position: machine.named("<copyreg extension>", str(code), "EXT1", position),
    "EXT2": lambda machine, code, position: machine.named("<copyreg extension>", str(code), "EXT2", position),
    "EXT4": lambda machine, code, position: machine.named("<copyreg extension>", str(code), "EXT4", position),
    "PERSID": _persistent,
    "BINPERSID": _persistent,
    "PUT": lambda machine, index, _: machine.remember(index),
    "BINPUT": lambda machine, index, _: machine.remember(index),
    "LONG_BINPUT": lambda machine, index, _: machine.remember(index),
    "MEMOIZE": lambda machine, _, __: machine.remember(len(machine.memo)),
    "GET": lambda machine, index, _: machine.recall(index),
    "BINGET": lambda machine, index, _: machine.recall(index),
    "LONG_BINGET": lambda machine, index, _: machine.recall(index),
    "PROTO": _protocol,
    "FRAME": lambda machine, _, __: None,
    "READONLY_BUFFER": lambda machine, _, __: None,
}


def _extend_cut(machine: _Machine) -> None:
    items = machine.cut()
    _extend(machine, items)


def _cut_as(machine: _Machine, kind: Callable[[list[Any]], Any]) -> None:
    items = machine.cut()
    machine.stack.append(kind(items))
