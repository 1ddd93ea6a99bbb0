"""What each opcode of a pickle does to the machine. Every opcode of every protocol is here, and none builds an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from doctor.formats.pickle_machine import UNKNOWN, Call, Machine, Persistent, PickleFault, Table

_LARGE = 1 << 60  # below the modulus of Python's hash of integers


def _put(target: Any, key: Any, value: Any) -> None:
    items = target.items if isinstance(target, Table | Call) else None
    if items is None:
        return
    # Hashing a tuple that is nested a million deep would overflow the C stack: only plain keys are hashed. Large
    # integers can be chosen to have one hash, and then each insertion would meet all the others.
    if isinstance(key, int) and abs(key) >= _LARGE:
        key = f"{key:#x}"
    items[key if isinstance(key, str | bytes | int | float | bool | None) else id(key)] = value


def _set_item(machine: Machine, _: Any, __: int) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _put(machine.stack[-1], key, value)


def _set_items(machine: Machine, _: Any, __: int) -> None:
    items = machine.cut()
    for index in range(0, len(items) - 1, 2):
        _put(machine.stack[-1], items[index], items[index + 1])


def _extend(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Call):
        target.elements.extend(items)


def _append(machine: Machine, _: Any, __: int) -> None:
    item = machine.stack.pop()
    _extend(machine, [item])


def _mark(machine: Machine, _: Any, __: int) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _tuple(count: int) -> Callable[[Machine, Any, int], None]:
    def push(machine: Machine, _: Any, __: int) -> None:
        if len(machine.stack) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return push


def _dict(machine: Machine, _: Any, __: int) -> None:
    items, table = machine.cut(), Table()
    for index in range(0, len(items) - 1, 2):
        _put(table, items[index], items[index + 1])
    machine.stack.append(table)


def _reduce(machine: Machine, _: Any, position: int) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.called(function, arguments, "REDUCE", position)


def _new(machine: Machine, _: Any, position: int) -> None:
    arguments, kind = machine.stack.pop(), machine.stack.pop()
    machine.called(kind, arguments, "NEWOBJ", position)


def _new_with_keywords(machine: Machine, _: Any, position: int) -> None:
    keywords, arguments, kind = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.called(kind, (arguments, keywords), "NEWOBJ_EX", position)


def _instance(machine: Machine, argument: Any, position: int) -> None:
    items = machine.cut()
    module, name = argument
    machine.named(module, name, "INST", position)
    machine.called(machine.stack.pop(), tuple(items), "INST", position)


def _object(machine: Machine, _: Any, position: int) -> None:
    items = machine.cut()
    machine.called(items.pop(0), tuple(items), "OBJ", position)


def _build(machine: Machine, _: Any, position: int) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, Call):
        target.state = state
    else:
        machine.trick("a state set on what is no new object", position)


def _stack_global(machine: Machine, _: Any, position: int) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.named(module, name, "STACK_GLOBAL", position)


def _persistent(machine: Machine, argument: Any, position: int) -> None:
    identity = machine.stack.pop() if argument is None else argument
    first = identity[0] if isinstance(identity, tuple) and identity else identity
    number = isinstance(identity, int) or (isinstance(identity, str) and identity.isdigit())
    if first not in ("storage", b"storage") and not number:
        machine.trick("a persistent id that is no storage", position)
    source = isinstance(identity, tuple) and len(identity) > 1 and first in ("module", b"module")
    machine.stack.append(identity[1] if source else Persistent(identity))


def _protocol(machine: Machine, argument: int, position: int) -> None:
    if argument > 5:
        raise PickleFault(f"protocol {argument} at byte {position} does not exist")
    machine.walk.protocol = argument


def _pop(machine: Machine, _: Any, __: int) -> None:
    # The C machine lets POP drop a mark when the stack above it is empty.
    if machine.stack or not machine.marks:
        machine.stack.pop()
    else:
        machine.stack = machine.marks.pop()


def _forget(machine: Machine, _: Any, __: int) -> None:
    machine.cut()


CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": Table,
    "EMPTY_SET": list,
    "NEXT_BUFFER": lambda: UNKNOWN,
}
_ARGUMENTS_ARE_VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT"
)
PUSHED = frozenset(_ARGUMENTS_ARE_VALUES.split())
HANDLERS: dict[str, Callable[[Machine, Any, int], None]] = {
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


def _extend_cut(machine: Machine) -> None:
    items = machine.cut()
    _extend(machine, items)


def _cut_as(machine: Machine, kind: Callable[[list[Any]], Any]) -> None:
    items = machine.cut()
    machine.stack.append(kind(items))
