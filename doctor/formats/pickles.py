"""A pickle machine that computes what a stream would build without building it: names stay names, calls stay calls.

It follows every opcode of every protocol with a stack, marks and a memo as the real machine has them, so that a name
put together on the stack or fetched from the memo is seen. What it cannot follow to the end is a fault of the stream.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from typing import Any

from doctor.formats.pickle_machine import CUT, UNKNOWN, Machine, PickleFault, Walk
from doctor.formats.pickle_opcodes import CONSTANTS, HANDLERS, PUSHED

MAX_OPCODES = 5_000_000
_MAX_DIGITS = 4096  # of a number written in decimals: longer ones cost quadratic time
# The opcodes that PyTorch's weights-only machine implements (torch._weights_only_unpickler, PyTorch 2.13).
_WEIGHTS_ONLY = (
    "GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWFALSE NEWTRUE "
    "EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE SHORT_BINSTRING BINPERSID "
    "BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1 PROTO STOP"
)
WEIGHTS_ONLY = frozenset(_WEIGHTS_ONLY.split())
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
    """Whether these bytes are a whole pickle of protocol 0 or 1, or begin one that calls what it names.

    Nothing marks such a pickle, and lists of words may begin like one: two lines behind a `c` are a name.
    """
    return begins(follow(head, limit=20_000), head)


def begins(walk: Walk, head: bytes) -> bool:
    """Whether bytes that were followed so far are such a pickle."""
    if walk.calls and any(plausible(use.path) for use in walk.names):
        return True
    return walk.fault is None and walk.opcodes > 2 and not head[walk.end :].strip(b"\0\r\n ")


def plausible(path: str) -> bool:
    """Whether a name may be one of Python's."""
    return path.startswith("<") or all(part.isidentifier() for part in path.split("."))


def follow(data: bytes, start: int = 0, limit: int = MAX_OPCODES) -> Walk:
    """Follow one stream from `start`."""
    walk = Walk(start)
    machine = _Reader(data, start, walk)
    try:
        machine.run(limit)
    except PickleFault as fault:
        walk.fault = str(fault)
    except (RecursionError, MemoryError) as failure:
        walk.fault = f"{type(failure).__name__} at byte {machine.at}"
    walk.end = machine.at
    return walk


class _Reader(Machine):
    """The machine with its stream: opcodes and their arguments are decoded here."""

    def __init__(self, data: bytes, start: int, walk: Walk) -> None:
        super().__init__(start, walk)
        self.data = data

    def run(self, limit: int) -> None:
        data, walk = self.data, self.walk
        while walk.opcodes < limit:
            if self.at >= len(data):
                raise PickleFault(f"it ends at {len(data)} without STOP, after {CUT}")
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
                return int.from_bytes(content, "little", signed=True) if count <= _MAX_DIGITS else UNKNOWN
            return content
        line = self._line(position)
        if kind == "stringnl_noescape_pair":
            return line.decode("utf-8", "backslashreplace"), self._line(position).decode("utf-8", "backslashreplace")
        return _literal(kind, line, position)

    def _take(self, count: int, position: int) -> bytes:
        if count > len(self.data) - self.at:
            raise PickleFault(f"the opcode at byte {position} needs {count} bytes beyond {CUT}")
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def _line(self, position: int) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise PickleFault(f"the line of the opcode at byte {position} does not end within {CUT}")
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def _step(self, name: str, argument: Any, position: int) -> None:
        simple = CONSTANTS.get(name)
        if simple is not None:
            self.stack.append(simple())
        elif name in PUSHED:
            self.stack.append(argument)
            if isinstance(argument, bytes) and len(argument) > 3 and len(self.walk.embedded) < 1000:
                self.walk.embedded.append(argument)
        else:
            HANDLERS[name](self, argument, position)


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
