"""What the rules on experiments share: places and related places."""

from __future__ import annotations

from doctor.evidence.base import Source
from doctor.evidence.metamorphic import Operation
from doctor.findings import Location, Related


def location(place: Source | None, operation: Operation | None = None) -> Location:
    """A finding's place: the line, and the module that the operation ran in."""
    module = operation.module or None if operation is not None else None
    return Location(path=place.path if place else None, line=place.line if place else None, module=module)


def related(*places: tuple[Source | None, str]) -> tuple[Related, ...]:
    """Further places, as far as they are known."""
    return tuple(
        Related(location=Location(path=place.path, line=place.line), message=message)
        for place, message in places
        if place
    )
