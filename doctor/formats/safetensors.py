"""Safetensors: an eight-byte length, a JSON header, and the bytes of the tensors without holes or overlaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doctor.evidence.artifact_contents import Problem, TensorEntry
from doctor.formats.files import Window
from doctor.formats.found import Found
from doctor.formats.sniffing import ends_as_zip
from doctor.formats.torch_values import MOST_DIMENSIONS

MAX_HEADER = 100_000_000  # the limit of the format's own reader
DTYPES = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F4": ("float4_e2m1fn_x2", 4),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "F32": ("float32", 32),
    "C64": ("complex64", 64),
    "F64": ("float64", 64),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
}


def read(path: Path, name: str, found: Found) -> None:
    """Read the header and hold every entry against the format's rules; tensors that break them are not read."""

    def wrong(message: str, tensor: str | None = None, label: str = "malformed-header") -> None:
        found.problems.append(Problem(label, message, name, tensor))

    with Window(path) as window:
        length = int.from_bytes(window.read(0, 8), "little")
        if window.size < 8:
            return wrong(f"{window.size} bytes are no safetensors file", label="truncated-file")
        if length > MAX_HEADER:
            return wrong(f"the header is declared to be {length} bytes long; the format allows {MAX_HEADER}")
        if 8 + length > window.size:
            return wrong(
                f"the header is declared to be {length} bytes long, the file has {window.size - 8} after its length",
                label="truncated-file",
            )
        header = _header(window.read(8, length), wrong)
        if header is None:
            return None
        metadata = header.pop("__metadata__", None)
        if metadata is not None and not _plain(metadata):
            wrong("__metadata__ is not a table of strings")
        elif metadata:
            found.facts.setdefault("metadata", {})[name] = metadata
        start, available = 8 + length, window.size - 8 - length
    spans: list[tuple[int, int, str]] = []
    for tensor, entry in header.items():
        fault = _fault(entry, available)
        if fault is not None:
            wrong(f"{fault[0]}", tensor, fault[1])
            continue
        begin, end = entry["data_offsets"]
        if end > begin:
            spans.append((begin, end, tensor))
        found.tensors.append(
            TensorEntry(
                name=tensor,
                dtype=DTYPES[entry["dtype"]][0],
                shape=tuple(entry["shape"]),
                file=name,
                offset=start + begin,
                nbytes=end - begin,
                storage=f"{name}@{begin}:{tensor}",
            )
        )
    cut = any(problem.file == name and problem.label == "truncated-file" for problem in found.problems)
    _cover(sorted(spans), available if not cut else 0, wrong)
    with path.open("rb") as stream:
        if ends_as_zip(stream):
            wrong("it is a zip archive, too: other loaders would read something else")
    return None


def _header(raw: bytes, wrong: Any) -> dict[str, Any] | None:
    if raw[:1] != b"{":
        wrong("the header does not begin with {")
        return None
    doubled: list[str] = []

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            doubled.extend(sorted({key for key in keys if keys.count(key) > 1})[:20] if len(keys) < 20_000 else ["?"])
        return dict(pairs)

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=table)
    except (ValueError, RecursionError) as failure:
        wrong(f"the header is no JSON ({type(failure).__name__}: {str(failure)[:120]})")
        return None
    for key in doubled:
        wrong(f'the header has the key "{key}" twice; loaders differ in which one they take', key)
    return header if isinstance(header, dict) else wrong("the header is no table") or None


def _plain(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _fault(entry: Any, available: int) -> tuple[str, str] | None:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return "its entry needs dtype, shape and data_offsets and nothing else", "malformed-header"
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        return f"its dtype {str(entry['dtype'])[:40]!r} is unknown", "malformed-header"
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(_whole(size) for size in shape):
        return f"its shape {str(shape)[:60]} is none", "malformed-header"
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_whole(at) for at in offsets):
        return f"its data_offsets {str(offsets)[:60]} are none", "malformed-header"
    bits = DTYPES[entry["dtype"]][1]
    for size in shape:
        bits *= size
        if bits > 1 << 66:
            return f"its shape {str(shape)[:60]} is larger than any file", "malformed-header"
    begin, end = offsets
    if begin > end:
        return f"its data end ({end}) before they begin ({begin})", "malformed-header"
    if end - begin != (bits + 7) // 8:
        return f"its shape needs {(bits + 7) // 8} bytes, its data_offsets give {end - begin}", "malformed-header"
    if end > available:
        return f"its data end at {end}, the file has {available} bytes of data", "truncated-file"
    return None


def _cover(spans: list[tuple[int, int, str]], available: int, wrong: Any) -> None:
    at, owner = 0, ""
    for begin, end, tensor in spans:
        if begin < at:
            wrong(f"{min(at, end) - begin} bytes belong to {owner} and {tensor} both", tensor)
        elif begin > at:
            wrong(f"{begin - at} bytes before {tensor} belong to no tensor", tensor)
        if end > at:
            at, owner = end, tensor
    if at < available:
        wrong(f"{available - at} bytes at the end belong to no tensor")
