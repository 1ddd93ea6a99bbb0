"""Artifacts: exported files, found and recognised by their content; opened, never executed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError
from doctor.evidence.artifact_source import ArtifactFile, ArtifactSource
from doctor.formats import onnx, sniffing
from doctor.formats.archives import escapes
from doctor.formats.folders import json_file
from doctor.formats.found import Found
from doctor.formats.onnx import leads_out

_MODEL_FILES = (
    "config.json",
    "adapter_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".onnx", ".pt2", ".pkl", ".pickle", ".joblib", ".ptc")
_MAX_FILES = 20_000


def is_artifact(target: str) -> bool:
    """Whether a target of `doctor diagnose` is an artifact: a file or folder of weights by content or by suffix."""
    path = Path(target)
    if path.is_dir():
        return any((path / name).exists() for name in _MODEL_FILES)
    if path.name.endswith(".index.json") or path.suffix.lower() in _SUFFIXES:
        return True
    return path.suffix not in (".py", ".evidence") and path.is_file() and sniffing.sniff(path) in _ARTIFACT_FORMATS


_ARTIFACT_FORMATS = ("safetensors", "torch-zip", "torch-legacy", "torch-tar", "torchscript", "pt2", "onnx", "pickle")


def artifact(target: str, **options: Any) -> ArtifactSource:
    """The artifact at a path; `options` are fields of ArtifactSource. Raises DoctorError when there is none."""
    path = Path(target)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise DoctorError(f"{target} is a link to {os.readlink(path)}, which does not exist") from None
        raise DoctorError(f"no file or folder {target}") from None
    except OSError as failure:
        raise DoctorError(f"{target} cannot be read ({failure.strerror})") from None
    if stat.S_ISDIR(mode):
        return _folder(path, target, options)
    if not stat.S_ISREG(mode):
        raise DoctorError(f"{target} is neither a regular file nor a folder")
    try:
        kind = sniffing.sniff(path)
        told = sniffing.told(path) if kind == "unknown" else ""
    except OSError as failure:
        raise DoctorError(f"{target} cannot be read ({failure.strerror})") from None
    root = path.resolve().parent if not path.is_symlink() else path.parent.resolve()
    if path.name.endswith(".index.json"):
        kind = "sharded"
    elif kind == "unknown" and path.suffix.lower() not in _SUFFIXES:
        raise DoctorError(f"{target} is {told}, and no artifact of a known format", "see doctor gate --help")
    files = [ArtifactFile(path.name, path.stat().st_size, kind)]
    if kind == "sharded":
        files += _shards(path)
    elif kind == "onnx":
        files += _external(path)
    return ArtifactSource(path=target, root=str(root), format=kind, files=tuple(files), **options)


def _shards(index: Path) -> list[ArtifactFile]:
    """The files that an index names and that lie beside it, and others of the same kind of name."""
    content = json_file(index)
    table = content.get("weight_map") if isinstance(content, dict) else None
    names = {name for name in table.values() if isinstance(name, str)} if isinstance(table, dict) else set()
    known = {name for name in names if not escapes(name) and not leads_out(index.parent / name, index.parent)}
    stem = index.name.split(".")[0]
    known |= {path.name for path in index.parent.glob(f"{stem}-*-of-*")}
    paths = [index.parent / name for name in sorted(known)]
    return [
        ArtifactFile(path.relative_to(index.parent).as_posix(), path.stat().st_size, sniffing.sniff(path))
        for path in paths
        if path.is_file()
    ]


def _external(model: Path) -> list[ArtifactFile]:
    """The files beside an ONNX model that hold its weights."""
    found = Found()
    onnx.read(model, model.name, found)
    names = {name for name in found.facts.get("external", ()) if name and not escapes(name)}
    inside = [name for name in sorted(names) if not leads_out(model.parent / name, model.parent)]
    paths = [model.parent / name for name in inside if (model.parent / name).is_file()]
    return [ArtifactFile(path.relative_to(model.parent).as_posix(), path.stat().st_size, "data") for path in paths]


def _folder(path: Path, target: str, options: dict[str, Any]) -> ArtifactSource:
    files: list[ArtifactFile] = []
    try:
        for folder, _, names in os.walk(path):
            for name in names:
                inner = Path(folder) / name
                if not inner.is_file():
                    continue
                files.append(ArtifactFile(inner.relative_to(path).as_posix(), inner.stat().st_size, _format(inner)))
                if len(files) > _MAX_FILES:
                    raise DoctorError(f"{target} holds more than {_MAX_FILES} files", "give the artifact's own folder")
    except OSError as failure:
        raise DoctorError(f"{failure.filename or target} cannot be read ({failure.strerror})") from None
    known = [file for file in files if file.format not in ("unknown", "zip", "tar", "numpy")]
    if not known and not any((path / name).exists() for name in _MODEL_FILES):
        raise DoctorError(f"the folder {target} holds no model", "give a file of weights, or a Hugging Face folder")
    return ArtifactSource(
        path=target, root=str(path.resolve()), format="huggingface", files=tuple(sorted(files, key=_order)), **options
    )


def _format(path: Path) -> str:
    if path.name.endswith(".index.json"):
        return "sharded"
    return sniffing.sniff(path)


def _order(file: ArtifactFile) -> tuple[bool, str]:
    return (file.path.count("/") > 0, file.path)
