"""Where a fault of the data is put: the line that makes the data, where it is known, else the one that uses it."""

from __future__ import annotations

from doctor.evidence.base import Source
from doctor.findings import Location


def location(*sources: Source | None, column: str | None = None) -> Location:
    """The first of these lines that is known."""
    place = next((source for source in sources if source is not None), None)
    return Location(path=place.path if place else None, line=place.line if place else None, column=column)
