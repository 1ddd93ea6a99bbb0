"""Archives of torch.export (.pt2): a graph in JSON, weights as plain bytes, and payloads that may be pickles."""

from __future__ import annotations

import json
from typing import Any

from doctor.evidence.artifact_contents import CodeReference, Problem, TensorEntry
from doctor.formats.archives import Archive, look_through
from doctor.formats.files import Window
from doctor.formats.found import Found
from doctor.formats.torch_values import ITEM_SIZES, MOST_DIMENSIONS

# torch._export.serde.schema.ScalarType, PyTorch 2.13
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
}


def read_archive(window: Window, file: str, found: Found, root: str, place: str, depth: int) -> Archive | None:
    """Scan all members; read the tables of weights and constants."""

    def raw(name: str) -> bool:
        return name.startswith((f"{root}data/weights/", f"{root}data/constants/")) and not name.endswith(".json")

    archive = look_through(window, file, found, place=place, raw=raw, depth=depth)
    if archive is None:
        return None
    for folder in ("weights", "constants"):
        for name in archive.members:
            if name.startswith(f"{root}data/{folder}/") and name.endswith("_config.json"):
                _table(archive, name, found)
    programs = [name for name in archive.members if name.startswith(f"{root}models/")]
    if not programs:
        found.problems.append(Problem("corrupt-file", "the archive holds no model", file))
    for name in programs:
        if name.endswith(".json"):
            _program(archive, name, found)
    return archive


def _program(archive: Archive, name: str, found: Found) -> None:
    """The graph itself must be a JSON table: its checksum is right when it was cut off before it was packed."""
    if not found.spend(archive.members[name].size, archive.file):
        return
    content = archive.read(name)
    if len(content) < archive.members[name].size:
        return  # larger than is read here, or told elsewhere
    try:
        sound = isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        whole = content.rstrip().endswith(b"}")
        if whole:
            found.problems.append(Problem("corrupt-file", "the program is no JSON table", archive.file, name))
        else:
            words = "the program is no JSON table: it ends too early"
            found.problems.append(Problem("truncated-file", words, archive.file, name, ("corrupt-file",)))


def _table(archive: Archive, name: str, found: Found) -> None:
    try:
        config = json.loads(archive.read(name)).get("config", {})
        entries = list(config.items())
    except (ValueError, AttributeError, RecursionError):
        found.problems.append(Problem("malformed-header", "the table of weights is no JSON", archive.file, name))
        return
    base = name.rpartition("/")[0] + "/"
    for key, entry in entries:
        if not isinstance(entry, dict):
            found.problems.append(Problem("malformed-header", "its entry is no table", archive.file, key))
            continue
        path = str(entry.get("path_name"))
        if entry.get("use_pickle"):
            message = "torch.export.load unpickles it without restriction"
            found.code.append(CodeReference("pickle-payload", message, archive.file, base + path))
        if path.startswith(("opaque_obj", "custom_obj")):
            continue
        member = archive.members.get(base + path)
        if member is None:
            found.problems.append(Problem("corrupt-file", f"{path} is missing in the archive", archive.file, key))
        meta = entry.get("tensor_meta")
        if member is not None and isinstance(meta, dict) and not entry.get("use_pickle"):
            tensor = _tensor(archive, key, base + path, meta, bool(entry.get("is_param")), found)
            if tensor is not None:
                found.tensors.append(tensor)


def _tensor(
    archive: Archive, key: str, path: str, meta: dict[str, Any], parameter: bool, found: Found
) -> TensorEntry | None:
    member = archive.members[path]
    try:
        shape = tuple(int(size["as_int"]) for size in meta["sizes"])
        strides = tuple(int(size["as_int"]) for size in meta.get("strides", ()))
        offset = int(meta.get("storage_offset", {}).get("as_int", 0))
        dtype = _DTYPES.get(int(meta["dtype"]), "unknown")
        device = str(meta.get("device", {}).get("type", "cpu"))
        if len(shape) > MOST_DIMENSIONS or max((*shape, *strides, offset, 0)) >= 1 << 62:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        found.problems.append(Problem("malformed-header", "its shape or dtype is none", archive.file, key))
        return None
    item = ITEM_SIZES.get(dtype, 0)
    contiguous = _contiguous(shape, strides)
    reach = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=False))
    if min((*shape, *strides, offset, 0)) < 0 or (offset + reach) * item > member.size:
        needs = (offset + reach) * item
        message = f"it needs {needs} bytes, {path} holds {member.size}"
        found.problems.append(Problem("corrupt-file", message, archive.file, key))
        return None
    return TensorEntry(
        name=key,
        dtype=dtype,
        shape=shape,
        file=archive.file,
        offset=member.data_offset + offset * item,
        nbytes=reach * item,
        storage=f"{archive.file}:{path}+{offset}",
        strides=None if contiguous else strides,
        device=device,
        role="other" if archive.place else "weight" if parameter else "buffer",
        unread=None if member.stored and item else "its storage is compressed or of unknown numbers",
    )


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=False):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
