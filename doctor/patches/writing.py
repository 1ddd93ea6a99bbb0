"""Writing a patch into the user's files: shown before, never outside the working tree, never half."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from doctor.errors import DoctorError
from doctor.findings import Patch


def working_tree(folder: Path | None = None) -> Path:
    """The repository around the working folder; the working folder itself where there is none."""
    folder = (folder or Path.cwd()).resolve()
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)


def write(patches: Sequence[Patch]) -> list[Path]:
    """Write these patches, each made on top of those before it; the files written.

    Raises DoctorError, before anything is written, for a file outside the working tree and for one that is not what
    the patches were made of.
    """
    contents: dict[Path, bytes] = {}
    originals: dict[Path, str] = {}
    for patch in patches:
        for file in patch.files:
            contents[Path(file.path)] = file.content
            originals.setdefault(Path(file.path), file.original)
    tree = working_tree()
    for path in contents:
        if not path.resolve().is_relative_to(tree):
            raise DoctorError(f"{path} lies outside {tree}", "apply the diff yourself, or run the doctor in its folder")
        _unchanged(path, originals[path])
    for path, content in contents.items():
        _replace(path, content, originals[path])
    return list(contents)


def _unchanged(path: Path, original: str) -> None:
    try:
        now = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as failure:
        raise DoctorError(f"{path} cannot be read: {failure.strerror}") from None
    if now != original:
        raise DoctorError(f"{path} has changed since it was diagnosed", "diagnose it again")


def _replace(path: Path, content: bytes, original: str) -> None:
    """In one move, so that the file is never half written; its mode stays."""
    real = path.resolve()
    if not os.access(real, os.W_OK):
        raise DoctorError(f"{path} is not writable")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
    except OSError as failure:
        raise DoctorError(f"{path} cannot be written: {failure.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(real, name)
        _unchanged(real, original)
        os.replace(name, real)
    except BaseException as failure:
        with suppress(OSError):
            os.unlink(name)
        if isinstance(failure, OSError):
            raise DoctorError(f"{path} cannot be written: {failure.strerror}") from None
        raise
