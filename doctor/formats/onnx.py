"""ONNX models read from their protocol buffer directly: no tensor is copied, and a damaged message is told, not loaded.

Field numbers are those of onnx.proto (IR version 14).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.evidence.artifact_contents import CodeReference, Problem, TensorEntry
from doctor.formats.archives import escapes
from doctor.formats.found import Found
from doctor.formats.torch_values import MOST_DIMENSIONS

DTYPES = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1", 4),
    24: ("float8_e8m0fnu", 8),
}
STANDARD = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft")
_DEPTH = 40
Buffer = mmap.mmap | bytes


class MessageError(Exception):
    """The bytes are no message of this form."""


Field = tuple[int, int, int, int]  # number, wire type, start or value, end


def fields(data: Buffer, start: int, end: int) -> Iterator[Field]:
    """The fields of one message: for lengths the span of the content, for numbers their value; raises MessageError."""
    at = start
    while at < end:
        key, at = varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise MessageError(f"field number 0 at byte {at}")
        if wire == 0:
            value, at = varint(data, at, end)
            yield number, wire, value, at
        elif wire == 2:
            length, at = varint(data, at, end)
            if length > end - at:
                raise MessageError(f"a field of {length} bytes at byte {at} reaches {length - end + at} bytes too far")
            yield number, wire, at, at + length
            at += length
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if size > end - at:
                raise MessageError(f"a number at byte {at} is cut off")
            yield number, wire, int.from_bytes(data[at : at + size], "little"), at + size
            at += size
        else:
            raise MessageError(f"wire type {wire} at byte {at}")


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """A number of variable length, and the offset after it."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise MessageError(f"a number at byte {at} {'is cut off' if at >= end else 'does not end'}")


def is_model(path: Path) -> bool:
    """Whether the file begins as a model: fields of the right kinds up to the graph or the end of a damaged file."""
    kinds = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    at, seen = 0, set()
    try:
        while at < len(head):
            key, at = varint(head, at, len(head))
            number, wire = key >> 3, key & 7
            if kinds.get(number) != wire:
                return False
            seen.add(number)
            value, at = varint(head, at, len(head))
            if number == 1 and not 0 < value < 1000:
                return False
            if wire == 2:
                if number == 7:
                    return 1 in seen or len(seen) > 1
                at += value
    except MessageError:
        return 1 in seen and at >= len(head) - 10  # cut off within a number
    return 1 in seen and (7 in seen or at >= len(head))


def read(path: Path, name: str, found: Found) -> None:
    """Operators, versions, tensors with their places, and external data of a model."""
    with path.open("rb") as stream:
        try:
            data: Buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):
            data = stream.read(1 << 20)
    reader = _Model(data, path, name, found)
    try:
        reader.model()
    except MessageError as failure:
        label = "truncated-file" if "too far" in str(failure) or "cut off" in str(failure) else "corrupt-file"
        found.problems.append(Problem(label, f"the model is no whole protocol buffer: {failure}", name))
    except RecursionError:
        found.problems.append(Problem("corrupt-file", "graphs within graphs without end", name))
    reader.finish()
    if isinstance(data, mmap.mmap):
        data.close()


class _Model:
    def __init__(self, data: Buffer, path: Path, name: str, found: Found) -> None:
        self.data, self.path, self.name, self.found = data, path, name, found
        self.facts: dict[str, Any] = {"opsets": {}, "ir_version": 0, "nodes": 0, "producer": "", "operators": {}}
        self.functions: set[tuple[str, str]] = set()
        self.custom: dict[tuple[str, str], str] = {}
        self.locations: dict[str, int] = {}

    def text(self, field: Field) -> str:
        """A string field."""
        return bytes(self.data[field[2] : min(field[3], field[2] + 4096)]).decode("utf-8", "backslashreplace")

    def model(self) -> None:
        """ModelProto."""
        graph = None
        for field in fields(self.data, 0, len(self.data)):
            number, wire, value, end = field
            if number == 1 and wire == 0:
                self.facts["ir_version"] = value
            elif number == 2 and wire == 2:
                self.facts["producer"] = self.text(field)
            elif number == 8 and wire == 2:
                self._opset(value, end)
            elif number == 25 and wire == 2:
                self._function(value, end)
            elif number == 14 and wire == 2:
                entry = {inner[0]: self.text(inner) for inner in fields(self.data, value, end) if inner[1] == 2}
                self.found.facts.setdefault("metadata", {}).setdefault(self.name, {})[entry.get(1, "")] = entry.get(2)
            elif number == 7 and wire == 2:
                graph = (value, end)
                self.graph(value, end, 0)
        if graph is None:
            raise MessageError("there is no graph; the file was cut off")
        if not self.facts["opsets"]:
            raise MessageError("no set of operators is named; the file was cut off")

    def finish(self) -> None:
        """Custom operators that no function of the model defines; facts."""
        for (domain, operator), node in self.custom.items():
            if (domain, operator) not in self.functions:
                message = f"the operator {operator} of the domain {domain} needs a library of its own"
                self.found.code.append(CodeReference("custom-op", message, self.name, node))
        self.found.facts.setdefault("onnx", {})[self.name] = self.facts
        for location in self.locations:
            self.found.facts.setdefault("external", []).append(location)

    def _opset(self, start: int, end: int) -> None:
        domain, version = "", 0
        for field in fields(self.data, start, end):
            if field[0] == 1 and field[1] == 2:
                domain = self.text(field)
            elif field[0] == 2 and field[1] == 0:
                version = field[2]
        self.facts["opsets"][domain] = version

    def _function(self, start: int, end: int) -> None:
        domain = name = ""
        for field in fields(self.data, start, end):
            if field[0] == 1 and field[1] == 2:
                name = self.text(field)
            elif field[0] == 10 and field[1] == 2:
                domain = self.text(field)
            elif field[0] == 7 and field[1] == 2:
                self.node(field[2], field[3], 1)
        self.functions.add((domain, name))

    def graph(self, start: int, end: int, depth: int) -> None:
        """GraphProto: its nodes and initializers, those of inner graphs too."""
        if depth > _DEPTH:
            raise MessageError("graphs within graphs, deeper than is read here")
        for field in fields(self.data, start, end):
            number, wire, value, stop = field
            if wire != 2:
                continue
            if number == 1:
                self.node(value, stop, depth)
            elif number == 5:
                self.tensor(value, stop, None)
            elif number == 15:
                for inner in fields(self.data, value, stop):
                    if inner[0] == 1 and inner[1] == 2:
                        self.tensor(inner[2], inner[3], None)

    def node(self, start: int, end: int, depth: int) -> None:
        """NodeProto: operator and domain, graphs and tensors in its attributes."""
        operator = domain = name = output = ""
        attributes: list[Field] = []
        for field in fields(self.data, start, end):
            if field[1] != 2:
                continue
            if field[0] == 4:
                operator = self.text(field)
            elif field[0] == 7:
                domain = self.text(field)
            elif field[0] == 3:
                name = self.text(field)
            elif field[0] == 2:
                output = output or self.text(field)
            elif field[0] == 5:
                attributes.append(field)
        self.facts["nodes"] += 1
        operators = self.facts["operators"]
        if len(operators) < 5000 or operator in operators:
            operators[operator] = operators.get(operator, 0) + 1
        if domain not in STANDARD:
            self.custom.setdefault((domain, operator), name or output)
        for _, _, value, stop in attributes:
            for inner in fields(self.data, value, stop):
                if inner[1] != 2:
                    continue
                if inner[0] in (6, 11):
                    self.graph(inner[2], inner[3], depth + 1)
                elif inner[0] in (5, 10):
                    self.tensor(inner[2], inner[3], output if operator == "Constant" else name or output)

    def tensor(self, start: int, end: int, owner: str | None) -> None:
        """TensorProto: where its numbers lie, and whether there are as many as its shape needs."""
        shape: list[int] = []
        kind, name, raw, typed, external = 0, "", None, None, {}
        location = 0
        for field in fields(self.data, start, end):
            number, wire, value, stop = field
            if number == 1 and wire == 0:
                shape.append(value)
            elif number == 1:
                at = value
                while at < stop:
                    size, at = varint(self.data, at, stop)
                    shape.append(size)
            elif number == 2 and wire == 0:
                kind = value
            elif number == 8 and wire == 2:
                name = self.text(field)
            elif number == 9 and wire == 2:
                raw = (value, stop)
            elif number in (4, 10) and wire == 2:
                typed = (value, stop)
            elif number in (5, 6, 7, 11) and typed is None:
                typed = (0, 0)
            elif number == 13 and wire == 2:
                entry = {inner[0]: self.text(inner) for inner in fields(self.data, value, stop) if inner[1] == 2}
                external[entry.get(1, "")] = entry.get(2, "")
            elif number == 14 and wire == 0:
                location = value
        self._place(owner or name, shape, kind, raw, typed, external if location == 1 else {}, owner is None)

    def _place(
        self,
        name: str,
        shape: list[int],
        kind: int,
        raw: tuple[int, int] | None,
        typed: tuple[int, int] | None,
        external: dict[str, str],
        weight: bool,
    ) -> None:
        dtype, bits = DTYPES.get(kind, ("unknown", 0))
        if len(shape) > MOST_DIMENSIONS or any(size >= 1 << 62 for size in shape):
            self.found.problems.append(Problem("malformed-header", "its shape is none", self.name, name))
            return
        for size in shape:
            bits *= size
        needs, unread = (bits + 7) // 8, None
        file, at, held = self.name, 0, needs

        def wrong(message: str, label: str = "corrupt-file") -> None:
            self.found.problems.append(Problem(label, message, self.name, name))

        if dtype == "unknown":
            wrong(f"its type {kind} is unknown", "malformed-header")
        if external:
            place = self._external(name, external, needs)
            if place is None:
                return
            file, at, held = place
        elif raw is not None:
            at, held = raw[0], raw[1] - raw[0]
        elif typed is not None and typed != (0, 0) and dtype in ("float32", "float64"):
            at, held = typed[0], typed[1] - typed[0]
        else:
            unread = "its numbers are packed one by one"
            if typed is None and needs and dtype != "string":
                wrong("its shape needs numbers and it has none")
        if dtype in ("string", "unknown"):
            unread = f"numbers of type {dtype}"
        elif held != needs and unread is None:
            wrong(f"its shape needs {needs} bytes, it has {held}")
            unread = "its size is wrong"
        role = "weight" if weight else "other"
        where = f"{file}@{at}" if external or raw else f"{file}#{name}"
        self.found.tensors.append(
            TensorEntry(name, dtype, tuple(shape), file, at, needs, where, role=role, unread=unread)
        )

    def _external(self, name: str, entry: dict[str, str], needs: int) -> tuple[str, int, int] | None:
        location = entry.get("location", "")

        def wrong(message: str, label: str = "corrupt-file") -> None:
            self.found.problems.append(Problem(label, message, self.name, name))

        self.locations[location] = self.locations.get(location, 0) + 1
        if not location or escapes(location):
            if location and self.locations[location] > 1:
                return None
            wrong(f'its data are said to lie in "{location}", outside the folder of the model', "path-traversal")
            return None
        path = self.path.parent / location
        if leads_out(path, self.path.parent):
            if self.locations[location] == 1:
                target = os.path.realpath(path)
                wrong(f'its data lie in "{location}", a link out of the folder, to {target}', "path-traversal")
            return None
        try:
            size = path.stat().st_size
        except OSError:
            if self.locations[location] == 1:
                wrong(f'its data lie in "{location}", which is missing', "truncated-file")
            return None
        try:
            at = int(entry.get("offset") or 0)
            length = int(entry["length"]) if entry.get("length") else needs
        except ValueError:
            wrong("offset and length of its data are no numbers", "malformed-header")
            return None
        if at < 0 or length < 0 or at + length > size:
            label = "truncated-file" if at >= 0 and length >= 0 else "malformed-header"
            wrong(f'bytes {at} to {at + length} of "{location}" are its data, the file has {size}', label)
            return None
        return (Path(self.name).parent / location).as_posix(), at, length


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, lies outside the folder. A content store beside it is no way out: the cache
    of the Hugging Face hub links from `snapshots/` to `blobs/`.
    """
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if real.is_relative_to(home):
        return False
    parts = home.parts
    store = Path(*parts[: parts.index("snapshots")]) / "blobs" if "snapshots" in parts else None
    return store is None or not real.is_relative_to(store)
