"""Plain texts: one document a line of a few large files, or a document a file."""

from __future__ import annotations

from pathlib import Path

_HEAD = 1 << 16  # bytes that are looked at
_LINES = 30


def delimited(path: Path) -> bool:
    """Whether a `.txt` file is a table: each of its first lines has equally many tabs, semicolons, bars or commas.

    Commas count only where no blank follows, as in prose.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    lines = head.decode("utf-8", "replace").splitlines()
    lines = [line for line in (lines[:-1] if len(head) == _HEAD else lines)[:_LINES] if line.strip()]
    if len(lines) < 3:
        return False
    for mark in "\t;|,":
        counts = {line.count(mark) for line in lines}
        if len(counts) == 1 and counts.pop() >= 1 and not (mark == "," and any(", " in line for line in lines)):
            return True
    return False
