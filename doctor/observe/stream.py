"""The event stream: one JSON object a line, written as it happens, so that a killed program leaves its evidence."""

from __future__ import annotations

import io
import json
import time
from typing import Any, Protocol


class Stream(Protocol):
    """Takes events."""

    def emit(self, event: str, **fields: Any) -> None:
        """Record one event."""

    def close(self) -> None:
        """Write what is buffered."""


class FileStream:
    """Events as JSON lines in a file, flushed at most every 0.2 s and at the end."""

    def __init__(self, path: str) -> None:
        # io.FileIO and not open(): the sandbox replaces open() later, and the stream must not go through it.
        self._file = io.TextIOWrapper(io.BufferedWriter(io.FileIO(path, "w")), encoding="utf-8")
        self._flushed = 0.0

    def emit(self, event: str, **fields: Any) -> None:
        """Record one event."""
        if self._file.closed:
            return
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        now = time.monotonic()
        if now - self._flushed > 0.2:
            self._file.flush()
            self._flushed = now

    def close(self) -> None:
        """Write what is buffered."""
        if not self._file.closed:
            self._file.close()


class ListStream:
    """Events as a list, for programs observed in this process."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: str, **fields: Any) -> None:
        """Record one event (tuples become lists, as they do in JSON)."""
        self.events.append(json.loads(json.dumps({"event": event, **fields})))

    def close(self) -> None:
        """Nothing is buffered."""
