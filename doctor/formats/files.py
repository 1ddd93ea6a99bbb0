"""Bounded reads of a file that may be larger than memory, and may be damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

CHUNK = 4 << 20


class Window:
    """An open file read by offsets. A read past the end gives fewer bytes, as the file has them.

    Chunks are read into one buffer instead of being mapped: they stay in the processor's cache while they are
    examined, the process does not grow, and a file that shrinks meanwhile gives an error and no SIGBUS.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.size = os.fstat(self._file).st_size

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def part(self, offset: int, count: int) -> Window:
        """A part of the file as a window of its own, valid while this one is open."""
        return _Part(self, offset, min(count, max(0, self.size - offset)))

    def read(self, offset: int, count: int) -> bytes:
        """These bytes."""
        return os.pread(self._file, max(0, count), offset) if count > 0 else b""

    def into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from the file; how many bytes there were."""
        return os.preadv(self._file, [buffer], offset)

    def chunks(self, offset: int, count: int, size: int = CHUNK) -> Iterator[memoryview]:
        """The bytes in pieces, each valid until the next is asked for."""
        buffer = memoryview(bytearray(min(size, max(count, 1))))
        while count > 0:
            got = self.into(buffer[: min(size, count)], offset)
            if not got:
                return
            yield buffer[:got]
            offset, count = offset + got, count - got


class _Part(Window):
    def __init__(self, whole: Window, offset: int, size: int) -> None:
        self.path, self._whole, self._offset, self.size = whole.path, whole, offset, size

    def __exit__(self, *_: object) -> None:
        """The whole closes the file."""

    def read(self, offset: int, count: int) -> bytes:
        return self._whole.read(self._offset + offset, min(count, self.size - offset))

    def into(self, buffer: memoryview, offset: int) -> int:
        room = max(0, self.size - offset)
        return self._whole.into(buffer[:room], self._offset + offset) if room else 0


class Memory(Window):
    """Bytes in memory (an unpacked member) as a window."""

    def __init__(self, content: bytes, path: Path) -> None:
        self.path, self._content, self.size = path, content, len(content)

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def read(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + max(0, count)]

    def into(self, buffer: memoryview, offset: int) -> int:
        piece = self._content[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)
