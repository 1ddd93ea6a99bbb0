"""Which format a file has, by its content; its name only says what was expected."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import BinaryIO

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number of torch's format before 1.6
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OTHERS = {
    b"\x89HDF": "HDF5",
    b"GGUF": "GGUF",
    b"\x7fELF": "a compiled library",
    b"MZ": "a Windows program",
    b"%PDF": "PDF",
    b"TFL3": "TensorFlow Lite",
}
EXPECTED = {
    ".safetensors": ("safetensors",),
    ".onnx": ("onnx",),
    ".pt2": ("pt2",),
    ".pt": ("torch-zip", "torch-legacy", "torch-tar", "torchscript", "pickle", "pt2"),
    ".pth": ("torch-zip", "torch-legacy", "torch-tar", "torchscript", "pickle"),
    ".ckpt": ("torch-zip", "torch-legacy", "torch-tar", "torchscript", "pickle"),
    ".pkl": ("pickle", "torch-legacy", "torch-zip"),
    ".npz": ("zip",),
    ".npy": ("numpy",),
}
_WEIGHT_FILE = re.compile(r"(pytorch_model|adapter_model|diffusion_pytorch_model|model)([-.]\d.*)?\.bin")


def expected(path: Path, alone: bool) -> tuple[str, ...]:
    """The formats that a file's name promises; none for names such as `.bin` that may hold anything, unless it is the
    usual name of a file of weights or `alone` is judged.
    """
    suffix = path.suffix.lower()
    if suffix in EXPECTED:
        return EXPECTED[suffix]
    if alone and suffix in (".pickle", ".joblib", ".ptc"):
        return EXPECTED[".pkl"]
    return (*EXPECTED[".pt"], "zip") if suffix == ".bin" and (alone or _WEIGHT_FILE.fullmatch(path.name)) else ()


def sniff(path: Path) -> str:
    """The format of a regular file by its content; `unknown` when it is none that is read here."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(4096)
        if not head:
            return "unknown"
        if head.startswith(_TORCH_LEGACY):
            return "torch-legacy"
        length = int.from_bytes(head[:8], "little")
        if head[8:9] == b"{" and (length <= size or (length < 1 << 40 and head[9:10] in b'"')):
            return "safetensors"
        if head.startswith(b"PK") or (head[:1] != b"\x80" and ends_as_zip(stream)):
            return _archive(path)
    if head.startswith(b"\x93NUMPY"):
        return "numpy"
    if head[257:262] == b"ustar" or _old_tar(head):
        return "torch-tar" if b"pickle" in head or b"storages" in head or b"sys_info" in head else "tar"
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return "pickle"
    return _by_grammar(path, head)


def told(path: Path) -> str:
    """What a file of unknown format looks like, in words."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "empty"
    for magic, name in {**_COMPRESSED, **_OTHERS}.items():
        if head.startswith(magic):
            return f"{name} data" if magic in _COMPRESSED else name
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself"
    if head.lstrip()[:9].lower() in (b"<!doctype", b"<html") or head.lstrip()[:5] == b"<?xml":
        return "a web page"
    if not any(byte < 9 or 13 < byte < 32 for byte in head):
        return "text"
    if not any(head):
        return "zeros"
    return "of no known format"


def ends_as_zip(stream: BinaryIO) -> bool:
    """Whether the file ends as a zip archive does, whatever it begins with."""
    try:
        return zipfile.is_zipfile(stream)
    except (OSError, ValueError):
        return False


def _archive(path: Path) -> str:
    from doctor.formats.zips import ZipFileError, entries

    try:
        names = [entry.name for entry in entries(path)]
    except ZipFileError:
        return "zip"
    inner = [name.partition("/")[2] for name in names] + names
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "archive_format" in inner or "serialized_exported_program.json" in inner:
        return "pt2"
    if "data.pkl" in inner:
        return "torch-zip"
    return "zip"


def _old_tar(head: bytes) -> bool:
    if len(head) < 512:
        return False
    try:
        stated = int(head[148:156].strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return stated == sum(head[:148]) + 8 * 32 + sum(head[156:512])


def _by_grammar(path: Path, head: bytes) -> str:
    from doctor.formats.onnx import is_model
    from doctor.formats.pickles import begins_as_pickle

    if is_model(path):
        return "onnx"
    return "pickle" if begins_as_pickle(head) else "unknown"
