"""NumPy's .npy files: only those that hold objects are pickles."""

from __future__ import annotations

from doctor.evidence.artifact_contents import CodeReference, Problem
from doctor.formats.files import Window
from doctor.formats.found import Found
from doctor.formats.pickle_scan import scan


def look_at(window: Window, file: str, place: str, found: Found) -> None:
    """Check the header; scan the pickle of an array of objects."""
    head = window.read(0, 12)
    wide = head[6:7] >= b"\x02"
    length = int.from_bytes(head[8:12] if wide else head[8:10], "little")
    start = (12 if wide else 10) + length
    if start > window.size or length > 1 << 20:
        found.problems.append(Problem("malformed-header", "the header of the array is cut off", file, place or None))
        return
    description = window.read(start - length, length)
    if b"'O'" in description or b"|O" in description or b'"O"' in description:
        found.code.append(CodeReference("object-array", "an array of objects is a pickle", file, place or None))
        scan(window.read(start, 64 << 20), file, place or "array of objects", found)
