"""Samples inside zip and tar archives, read in place: nothing is written to disk, and no member is read beyond a bound."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from doctor.errors import DoctorError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_LARGEST = 256 << 20  # bytes of one member that are read
_MOST = 2_000_000  # members of an archive that are listed
_ASIDE = 64 << 20  # bytes of members that lie before the one asked for, in an archive that can only be read in order
_SIDECAR = 1 << 16  # bytes of a file that tells of the sample beside it
_SIDECARS = (".cls", ".json", ".txt")
_HIDDEN = (".", "__MACOSX")


@dataclass(frozen=True)
class Packed:
    """One member of an archive, with those parts of `Path` by which files of samples are read.

    Reading raises OSError for whatever is wrong with it: a checksum, its end, its encryption, its size.
    """

    archive: Path
    inside: PurePosixPath
    _take: Callable[[], bytes] = field(repr=False, compare=False)

    @property
    def suffix(self) -> str:
        """As of a path."""
        return self.inside.suffix

    @property
    def stem(self) -> str:
        """As of a path."""
        return self.inside.stem

    @property
    def name(self) -> str:
        """As of a path."""
        return self.inside.name

    def is_file(self) -> bool:
        """It was listed."""
        return True

    def read_bytes(self) -> bytes:
        """The whole member."""
        try:
            return self._take()
        except OSError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as failure:
            raise OSError(str(failure).partition(" for file")[0] or type(failure).__name__) from None
        except Exception as failure:  # lzma and bz2 have errors of their own
            raise OSError(f"{type(failure).__name__}: {failure}") from None

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The member as a stream of bytes."""
        return io.BytesIO(self.read_bytes())

    def __str__(self) -> str:
        return f"{self.archive}/{self.inside}"


@dataclass(frozen=True)
class Listing:
    """What an archive holds: its members, and the small files beside samples (`cls`, `json`, `txt`) by key and suffix."""

    members: tuple[Packed, ...]
    beside: dict[str, dict[str, str]]


def is_archive(path: Path) -> bool:
    """Whether the name is that of a zip or tar archive."""
    return path.name.lower().endswith(SUFFIXES)


def key_of(inside: PurePosixPath) -> str:
    """What the files of one sample have in common: the path up to the first dot of its last part."""
    stem = inside.name.partition(".")[0]
    return (inside.parent / stem).as_posix()


def names(path: Path, most: int = 500) -> Iterator[str]:
    """The first names in an archive, as far as it can be read."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as opened:
                yield from opened.namelist()[:most]
            return
        with tarfile.open(path) as stream:
            for _, member in zip(range(most), stream, strict=False):
                yield member.name
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error):
        return


def listing(path: Path) -> Listing:
    """All members; raises DoctorError for what is no archive."""
    try:
        found = _zip(path) if path.name.lower().endswith(".zip") else _tar(path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError) as failure:
        raise DoctorError(f"{path} cannot be read as an archive: {failure}", "is it cut off?") from None
    if not found.members:
        raise DoctorError(f"{path} is an empty archive", "give an archive of samples")
    return found


def _zip(path: Path) -> Listing:
    opened = zipfile.ZipFile(path)  # stays open as long as a member may be read; reads of several threads take turns
    members, beside = [], dict[str, dict[str, str]]()
    for info in opened.infolist()[:_MOST]:
        inside = PurePosixPath(info.filename)
        if info.is_dir() or any(part.startswith(_HIDDEN) for part in inside.parts):
            continue
        if inside.suffix.lower() in _SIDECARS and info.file_size <= _SIDECAR:
            text = Packed(path, inside, lambda info=info: _unzipped(opened, info))  # type: ignore[misc]
            _note(beside, inside, text.read_bytes)
        members.append(Packed(path, inside, lambda info=info: _unzipped(opened, info)))  # type: ignore[misc]
    return Listing(tuple(members), beside)


def _unzipped(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > _LARGEST:
        raise OSError(f"larger than {_LARGEST >> 20} MB")
    with opened.open(info) as stream:
        return stream.read(info.file_size + 1)


def _tar(path: Path) -> Listing:
    members, beside = [], dict[str, dict[str, str]]()
    with tarfile.open(path) as opened:
        plain = type(opened.fileobj).__name__ not in ("GzipFile", "BZ2File", "LZMAFile")
        ordered = None if plain else _Ordered(path)
        for info, broken in _tar_members(opened):
            if info is None:
                members.append(Packed(path, PurePosixPath("(the rest)"), lambda why=broken: _fail(why)))  # type: ignore[misc]
                continue
            inside = PurePosixPath(info.name)
            if not info.isreg() or any(part.startswith(_HIDDEN) for part in inside.parts if part != "."):
                continue
            if inside.suffix.lower() in _SIDECARS and info.size <= _SIDECAR:
                stream = opened.extractfile(info)
                _note(beside, inside, stream.read if stream is not None else bytes)
            if plain:
                where = (info.offset_data, info.size)
                members.append(Packed(path, inside, lambda where=where: _cut(path, *where)))  # type: ignore[misc]
            else:
                assert ordered is not None
                ordered.wanted.add(info.name)
                members.append(Packed(path, inside, lambda name=info.name, o=ordered: o.take(name)))  # type: ignore[misc]
    return Listing(tuple(members), beside)


def _tar_members(opened: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo | None, str]]:
    """The members until the end, or until the archive breaks: then None and why."""
    for _ in range(_MOST):
        try:
            info = opened.next()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as failure:
            yield None, f"the archive breaks off here: {failure}"
            return
        if info is None:
            return
        yield info, ""


def _fail(why: str) -> bytes:
    raise OSError(why)


def _cut(path: Path, start: int, size: int) -> bytes:
    if size > _LARGEST:
        raise OSError(f"larger than {_LARGEST >> 20} MB")
    with path.open("rb") as stream:
        stream.seek(start)
        content = stream.read(size)
    if len(content) < size:
        raise OSError(f"cut off: {size - len(content)} bytes fewer than the archive says")
    return content


class _Ordered:
    """A compressed tar, which can only be read from its start: members that are passed over wait until they are asked for."""

    def __init__(self, path: Path) -> None:
        self.wanted: set[str] = set()
        self._path = path
        self._lock = threading.Lock()
        self._stream: tarfile.TarFile | None = None
        self._aside: dict[str, bytes | None] = {}

    def take(self, name: str) -> bytes:
        """One member's content; from the start again where it was passed over too long ago."""
        with self._lock:
            for again in (False, True):
                if again or self._stream is None:
                    self._stream = tarfile.open(self._path)  # noqa: SIM115  it goes on at the next call
                if name in self._aside:
                    return self._bounded(self._aside.pop(name))
                for found, content in self._forward(self._stream):
                    if found == name:
                        return self._bounded(content)
                    self._put_aside(found, content)
        raise OSError("the archive breaks off before it")

    def _forward(self, stream: tarfile.TarFile) -> Iterator[tuple[str, bytes | None]]:
        """The members that are wanted, from here on; None for one that is too large."""
        for info, _ in _tar_members(stream):
            if info is None:
                return
            if info.name in self.wanted and info.isreg():
                opened = stream.extractfile(info) if info.size <= _LARGEST else None
                yield info.name, opened.read() if opened is not None else None

    def _put_aside(self, name: str, content: bytes | None) -> None:
        self._aside[name] = content
        while sum(len(one or b"") for one in self._aside.values()) > _ASIDE:
            self._aside.pop(next(iter(self._aside)))

    @staticmethod
    def _bounded(content: bytes | None) -> bytes:
        if content is None:
            raise OSError(f"larger than {_LARGEST >> 20} MB")
        return content


def _note(beside: dict[str, dict[str, str]], inside: PurePosixPath, read: Callable[[], bytes]) -> None:
    try:
        text = read().decode("utf-8", "replace").strip()
    except OSError:
        return
    beside.setdefault(key_of(inside), {})[inside.name.partition(".")[2].lower()] = text


def label_in(beside: dict[str, str], target: str | None, keys: tuple[str, ...]) -> str | None:
    """The class that the files beside a sample give: `cls`, or a key of `json` (the target, or a usual one)."""
    if "cls" in beside:
        return beside["cls"] or None
    try:
        record = json.loads(beside.get("json", ""))
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    named = next((key for key in (target, *keys) if key in record and isinstance(record[key], (str, int, bool))), None)
    return str(record[named]) if named is not None else None
