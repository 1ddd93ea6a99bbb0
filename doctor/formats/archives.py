"""Zip and tar archives: their headers against each other, and every member for what it may hide."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from doctor.evidence.artifact_contents import CodeReference, Problem
from doctor.formats.files import Memory, Window
from doctor.formats.found import Found
from doctor.formats.pickle_machine import Walk
from doctor.formats.pickle_scan import COST, HEAD, PICKLE_NAMES, ends_early, glance, recognised, scan
from doctor.formats.pickles import follow, plausible
from doctor.formats.torch_globals import harmless
from doctor.formats.zips import ZipDirectory, ZipEntry, ZipFileError, checksum, directory, member

MOST_UNPACKED = 256 << 20
_MOST_RATIO = 200  # unpacked by packed bytes; weights stay below 5, text below 20
_DEPTH = 4


@dataclass
class Archive:
    """A zip archive that was looked through: its members, and the pickles that were followed, by member."""

    window: Window
    file: str
    place: str
    members: dict[str, ZipEntry] = field(default_factory=dict)
    pickles: dict[str, list[Walk]] = field(default_factory=dict)

    def read(self, name: str, limit: int = MOST_UNPACKED) -> bytes:
        """A member's bytes; empty when there is none."""
        entry = self.members.get(name)
        try:
            return member(self.window, entry, limit) if entry else b""
        except ZipFileError:
            return b""


def escapes(name: str) -> bool:
    """Whether a path of a member leads out of the folder that it is unpacked into."""
    parts = re.split(r"[/\\]", name)
    return ".." in parts or name[:1] in ("/", "\\") or bool(re.match(r"[A-Za-z]:", name)) or "\0" in name


def look_through(
    window: Window,
    file: str,
    found: Found,
    *,
    place: str = "",
    raw: Callable[[str], bool] = lambda name: False,
    scripted: Callable[[str], bool] = lambda name: False,
    depth: int = 0,
) -> Archive | None:
    """Check the archive's structure and scan every member.

    `raw` says of a member whether the loader takes it for numbers only, `scripted` whether TorchScript's reader reads
    it. None when the directory cannot be read.
    """

    def wrong(message: str, name: str | None = None, label: str = "corrupt-file") -> None:
        inner = ": ".join(part for part in (place, name) if part) or None
        also = ("corrupt-file",) if inner and label == "truncated-file" else ()  # spoilt before it was packed
        found.problems.append(Problem(label, message, file, inner, also))

    try:
        listed = directory(window)
    except (ZipFileError, struct.error) as failure:
        cut = "cut off" in str(failure) or "outside" in str(failure)
        wrong(f"the zip archive cannot be opened: {failure}", None, "truncated-file" if cut else "corrupt-file")
        _hidden(window, 0, window.size, file, place, found)
        return None
    archive = Archive(window, file, place, {entry.name: entry for entry in listed.entries})
    _structure(listed, wrong)
    unpacked = 0
    for entry in listed.entries:
        if entry.name.endswith("/") and not entry.size:
            continue
        if not entry.stored:
            unpacked += entry.size
            if entry.size > _MOST_RATIO * max(entry.compressed, 1) and entry.size > 16 << 20:
                wrong(f"{entry.compressed} bytes unpack to {entry.size}: a decompression bomb", entry.name)
                continue
            if unpacked > 4 * MOST_UNPACKED:
                wrong("its compressed members unpack to more than is read here", entry.name)
                continue
        walks = _member(archive, entry, found, raw(entry.name), scripted(entry.name), depth, wrong)
        if walks:
            archive.pickles[entry.name] = walks
    _gaps(window, listed, file, place, found, wrong)
    return archive


def _structure(listed: ZipDirectory, wrong: Callable[..., None]) -> None:
    names: set[str] = set()
    at, last = 0, ""
    if listed.end_records > 1:
        wrong("it has two end records: loaders differ in which archive they see")
    for entry in sorted(listed.entries, key=lambda entry: entry.header_offset):
        if entry.fault:
            wrong(f"a damaged or doctored member: {entry.fault}", entry.name)
        if escapes(entry.name) or escapes(entry.local_name):
            wrong(f'the member "{entry.name}" would be unpacked outside the folder', entry.name, "path-traversal")
        if entry.name.lower() in names:
            wrong("the name stands twice in the archive (up to letter case)", entry.name)
        names.add(entry.name.lower())
        if entry.header_offset < at:
            wrong(f"it shares bytes with the member {last}", entry.name)
        at, last = max(at, entry.end), entry.name


def _member(
    archive: Archive, entry: ZipEntry, found: Found, raw: bool, scripted: bool, depth: int, wrong: Callable[..., None]
) -> list[Walk]:
    window, place = archive.window, f"{archive.place}: {entry.name}" if archive.place else entry.name
    try:
        head = member(window, entry, HEAD)
    except ZipFileError as failure:
        wrong(str(failure), entry.name)
        return []
    named = entry.name.endswith(PICKLE_NAMES)
    if raw and not named and not glance(head, found, archive.file):
        return []
    if head.startswith(b"PK\x03\x04") and not raw:
        inner = _inside(window, entry)
        if depth >= _DEPTH or inner is None or not found.spend(inner.size, archive.file):
            wrong("archives within archives, deeper or larger than is read here", entry.name)
        else:
            from doctor.formats.torch_archive import read_zip

            read_zip(inner, archive.file, found, place=place, depth=depth + 1, role="other")
        return []
    if head.startswith((b"\x7fELF", b"MZ\x90")) or entry.name.endswith((".so", ".dll", ".dylib")):
        found.code.append(CodeReference("library", "it brings a compiled library", archive.file, place))
        return []
    if head.startswith(b"\x93NUMPY"):
        from doctor.formats.numpy_files import look_at

        inner = _inside(window, entry)
        if inner is not None:
            look_at(inner, archive.file, place, found)
        return []
    if not (named or recognised(head, found, archive.file)):
        return []
    if not found.spend(entry.size, archive.file):
        return []
    content = member(window, entry, MOST_UNPACKED)
    if len(content) < entry.size:
        wrong(f"a pickle of {entry.size} bytes is larger than is read here, or cut off", entry.name)
    walks = scan(content, archive.file, place, found, scripted=scripted)
    if walks and ends_early(walks[-1]):
        wrong(f"its pickle is cut off: {walks[-1].fault}", entry.name, "truncated-file")
    return walks


def _inside(window: Window, entry: ZipEntry) -> Window | None:
    if entry.stored:
        return window.part(entry.data_offset, entry.compressed)
    if entry.size > MOST_UNPACKED:
        return None
    return Memory(member(window, entry, MOST_UNPACKED), window.path)


def _gaps(
    window: Window, listed: ZipDirectory, file: str, place: str, found: Found, wrong: Callable[..., None]
) -> None:
    """Bytes between members that no directory lists may hold another archive or a pickle."""
    if listed.prefix > 0:
        wrong(f"{listed.prefix} bytes stand before the archive")
        _hidden(window, 0, listed.prefix, file, place, found)
    if listed.trailing > 0:
        wrong(f"{listed.trailing} bytes follow after the archive")
        _hidden(window, window.size - listed.trailing, listed.trailing, file, place, found)
    at = max(0, listed.prefix)
    for entry in sorted(listed.entries, key=lambda entry: entry.header_offset):
        _between(window, at, entry.header_offset, file, place, found, wrong)
        at = max(at, entry.end)
    _between(window, at, listed.directory_offset, file, place, found, wrong)


def _between(
    window: Window, begin: int, end: int, file: str, place: str, found: Found, wrong: Callable[..., None]
) -> None:
    if end - begin <= 24:  # a data descriptor follows a member that was written as a stream
        return
    gap = window.read(begin, min(end - begin, HEAD))
    if gap.strip(b"\0"):
        wrong(f"{end - begin} bytes at {begin} belong to no member that the directory lists")
        _hidden(window, begin, end - begin, file, place, found)


def _hidden(window: Window, begin: int, count: int, file: str, place: str, found: Found) -> None:
    content = window.read(begin, min(count, 4 << 20))
    if not found.spend(len(content), file):
        return
    starts = [0, *[m.start() for m in re.finditer(rb"\x80[\x02-\x05][c}(\]\x8c\x95X]", content)][:50]]
    for start in starts:
        walk = follow(content, start, limit=100_000)
        if not found.spend(COST * walk.opcodes, file):
            return
        if walk.calls and any(plausible(use.path) and not harmless(use.path) for use in walk.names):
            where = f"{place + ': ' if place else ''}unlisted bytes at {begin + start}"
            scan(content[start : walk.end], file, where, found)
            return


def verify(archive: Archive, found: Found) -> None:
    """Compare the CRC-32 of every member; an archive that was written without any checksum has only zeros."""
    entries = [entry for entry in archive.members.values() if entry.size and not entry.fault]
    found.budget += 2 * archive.window.size
    if not any(entry.crc for entry in entries):
        return
    entries = [entry for entry in entries if found.spend(entry.size, archive.file)]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for entry, fault in zip(entries, pool.map(lambda one: _mismatch(archive.window, one), entries), strict=True):
            if fault:
                inner = f"{archive.place}: {entry.name}" if archive.place else entry.name
                found.problems.append(Problem("corrupt-file", fault, archive.file, inner))


def _mismatch(window: Window, entry: ZipEntry) -> str | None:
    if not entry.stored and entry.size > MOST_UNPACKED:
        return None
    try:
        same = checksum(window, entry, MOST_UNPACKED) == (entry.crc, entry.size)
    except ZipFileError as failure:
        return str(failure)
    return None if same else "its checksum (CRC-32) does not match its data"
