"""Zip archives read by their raw headers, since loaders differ in what they check: nothing is skipped or repaired."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doctor.formats.crc import crc32
from doctor.formats.files import Window

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_MAX_ENTRIES = 500_000
CHUNK = 1 << 20


class ZipFileError(Exception):
    """The archive's directory cannot be read; the message says why."""


@dataclass(frozen=True)
class ZipEntry:
    """One member by the central directory, with the place of its data; `local_name` is what its own header says.

    `fault` says what is wrong with its headers, if anything.
    """

    name: str
    method: int
    flags: int
    crc: int
    compressed: int
    size: int
    header_offset: int
    data_offset: int
    local_name: str
    fault: str | None = None

    @property
    def end(self) -> int:
        """Offset of the first byte after its data."""
        return self.data_offset + self.compressed

    @property
    def stored(self) -> bool:
        """Whether its bytes lie in the file as they are."""
        return self.method == 0


@dataclass(frozen=True)
class ZipDirectory:
    """All members, and what surrounds them: bytes before the archive, and after its end record."""

    entries: tuple[ZipEntry, ...]
    prefix: int
    trailing: int
    directory_offset: int
    end_records: int


def entries(path: Path) -> tuple[ZipEntry, ...]:
    """The members by the central directory; raises ZipFileError."""
    with Window(path) as window:
        return directory(window).entries


def directory(window: Window) -> ZipDirectory:
    """Read the end record, the central directory, and every local header; raises ZipFileError."""
    size = window.size
    tail_at = max(0, size - 22 - 65535)
    tail = window.read(tail_at, size - tail_at)
    ends = [m.start() for m in re.finditer(re.escape(_END), tail) if m.start() + 22 <= len(tail)]
    ends = [at for at in ends if at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") <= len(tail)]
    if not ends:
        raise ZipFileError("the end record of the archive is missing: the file was cut off")
    exact = sum(at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail) for at in ends)
    at = ends[-1]
    _, disk, _, _, count, length, offset, comment = struct.unpack("<4s4H2LH", tail[at : at + 22])
    end_at, start = tail_at + at, tail_at + at
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        start = int.from_bytes(tail[at - 12 : at - 4], "little")
        record = window.read(start, 56) if 0 <= start <= size - 56 else b""
        if record[:4] != b"PK\x06\x06":
            cut = "" if exact else ": the file was cut off"
            raise ZipFileError(f"the zip64 end record is not where it is said to be{cut}")
        wide = struct.unpack("<3Q", record[32:56])
        limits = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        if any(
            narrow not in (limit, broad)
            for narrow, broad, limit in zip((count, length, offset), wide, limits, strict=True)
        ):
            raise ZipFileError("its two end records disagree")
        count, length, offset = wide
    prefix = start - length - offset
    if length > size or offset > size or offset + length + max(prefix, 0) > size or prefix < 0 or disk:
        raise ZipFileError("the central directory lies outside the file")
    if count > _MAX_ENTRIES:
        raise ZipFileError(f"{count} members are declared")
    listed = tuple(_central(window, offset + prefix, length, prefix))
    if len(listed) != count:
        raise ZipFileError(f"the end record counts {count} members, the central directory holds {len(listed)}")
    return ZipDirectory(listed, prefix, size - end_at - 22 - comment, offset + prefix, exact)


def _central(window: Window, at: int, length: int, prefix: int) -> Iterator[ZipEntry]:
    content = window.read(at, length)
    position = 0
    while position + 46 <= len(content) and content[position : position + 4] == _CENTRAL:
        fields = struct.unpack("<4s6H3L5H2L", content[position : position + 46])
        flags, method, crc, compressed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
        name_length, extra_length, comment_length, header = fields[10], fields[11], fields[12], fields[16]
        name = content[position + 46 : position + 46 + name_length]
        extra = content[position + 46 + name_length : position + 46 + name_length + extra_length]
        size, compressed, header = _zip64(extra, size, compressed, header)
        position += 46 + name_length + extra_length + comment_length
        yield _with_local_header(window, _text(name), method, flags, crc, compressed, size, header + prefix)


def _with_local_header(
    window: Window, name: str, method: int, flags: int, crc: int, compressed: int, size: int, header: int
) -> ZipEntry:
    def entry(data: int, local_name: str, fault: str | None) -> ZipEntry:
        return ZipEntry(name, method, flags, crc, compressed, size, header, data, local_name, fault)

    head = window.read(header, 30) if 0 <= header <= window.size - 30 else b""
    if head[:4] != _LOCAL:
        return entry(header, "", "its local header is missing")
    _, _, local_flags, local_method, _, _, _, _, _, name_length, extra_length = struct.unpack("<4s5H3L2H", head)
    local_name = _text(window.read(header + 30, name_length))
    data = header + 30 + name_length + extra_length
    fault = None
    if local_name != name:
        fault = f'it is called "{local_name}" in its own header'
    elif (flags | local_flags) & 0x41:
        fault = "it is marked as encrypted"
    elif local_method != method:
        fault = f"its headers disagree on the compression ({method} and {local_method})"
    elif data + compressed > window.size:
        fault = "its data reach beyond the end of the file"
    elif method == 0 and compressed != size:
        fault = f"it is stored in {compressed} bytes though its size is {size}"
    elif method not in (0, 8):
        fault = f"it is packed by method {method}, which no loader of models reads"
    return entry(data, local_name, fault)


def _zip64(extra: bytes, size: int, compressed: int, header: int) -> tuple[int, int, int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        if kind == 1:
            values = list(struct.unpack(f"<{length // 8}Q", extra[at + 4 : at + 4 + length // 8 * 8]))
            size = values.pop(0) if size == 0xFFFFFFFF and values else size
            compressed = values.pop(0) if compressed == 0xFFFFFFFF and values else compressed
            header = values.pop(0) if header == 0xFFFFFFFF and values else header
        at += 4 + length
    return size, compressed, header


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def member(window: Window, entry: ZipEntry, limit: int) -> bytes:
    """The content of a member, at most `limit` bytes of it; raises ZipFileError when it cannot be unpacked."""
    if entry.fault and entry.compressed > max(0, window.size - entry.data_offset):
        raise ZipFileError(entry.fault)
    if entry.stored:
        return window.read(entry.data_offset, min(entry.compressed, limit))
    return b"".join(_inflated(window, entry, limit))


def _inflated(window: Window, entry: ZipEntry, limit: int) -> Iterator[bytes]:
    if entry.method != 8:
        raise ZipFileError(f"packed by method {entry.method}")
    unpacker = zlib.decompressobj(-15)
    at, left = entry.data_offset, limit
    try:
        while at < entry.end and left > 0 and not unpacker.eof:
            packed = window.read(at, min(CHUNK, entry.end - at))
            at += len(packed)
            while packed and left > 0:
                piece = unpacker.decompress(packed, min(CHUNK, left))
                packed = unpacker.unconsumed_tail
                left -= len(piece)
                yield piece
                if not piece:
                    break
            if not packed and at >= window.size:
                break
    except zlib.error as failure:
        raise ZipFileError(f"its compressed data are damaged ({failure})") from None


def checksum(window: Window, entry: ZipEntry, limit: int) -> tuple[int, int]:
    """CRC-32 and number of the bytes of a member, unpacked up to `limit`; raises ZipFileError."""
    crc = count = 0
    if entry.stored:
        for chunk in window.chunks(entry.data_offset, entry.compressed):
            crc = crc32(chunk, crc)
        return crc, entry.compressed
    for piece in _inflated(window, entry, limit):
        crc = crc32(piece, crc)
        count += len(piece)
    return crc, count
