"""Locations from lines of the user's code."""

from __future__ import annotations

from doctor.evidence.base import Source
from doctor.findings import Location, Related


def at(source: Source | None, module: str = "") -> Location:
    """The location of a line, or an empty one."""
    if source is None:
        return Location(module=module or None)
    return Location(path=source.path, line=source.line, module=module or None)


def related(source: Source | None, message: str) -> tuple[Related, ...]:
    """A further place, where it is known."""
    return (Related(location=at(source), message=message),) if source else ()
