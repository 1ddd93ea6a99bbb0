"""An ONNX model without the numbers of its large tensors: signature and graph cost kilobytes, whatever the weights cost."""

from __future__ import annotations

import mmap
from pathlib import Path

from doctor.formats.onnx import Buffer, Field, fields

_SMALL = 4096  # bytes up to which a tensor is kept: the constants that graphs compute with
_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and of GraphProto
_NUMBERS = (4, 5, 6, 7, 9, 10, 11)  # fields of TensorProto that hold its elements
_VARINT, _BYTES = 0, 2


def without_weights(path: Path) -> bytes:
    """The model's message with large initialisers reduced to name, type and shape; raises MessageError."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _copied(data, 0, len(data), (_GRAPH, _INITIALIZER))


def _copied(data: Buffer, start: int, end: int, way: tuple[int, ...]) -> bytes:
    """A message, in which the messages at the end of the way (field numbers) are slimmed."""
    parts: list[bytes] = []
    for field in fields(data, start, end):
        number, wire, value, stop = field
        if wire == _BYTES and way and number == way[0]:
            inner = _copied(data, value, stop, way[1:]) if len(way) > 1 else _tensor(data, value, stop)
            parts += (_key(number, wire), _varint(len(inner)), inner)
        else:
            parts.append(_whole(data, field))
    return b"".join(parts)


def _tensor(data: Buffer, start: int, end: int) -> bytes:
    if end - start <= _SMALL:
        return bytes(data[start:end])
    kept = (field for field in fields(data, start, end) if field[0] not in _NUMBERS)
    return b"".join(_whole(data, field) for field in kept)


def _whole(data: Buffer, field: Field) -> bytes:
    number, wire, value, end = field
    if wire == _VARINT:
        return _key(number, wire) + _varint(value)
    if wire == _BYTES:
        return _key(number, wire) + _varint(end - value) + bytes(data[value:end])
    return _key(number, wire) + value.to_bytes(8 if wire == 1 else 4, "little")


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
