"""Locations from lines of the user's code."""

from __future__ import annotations

from doctor.evidence.base import Source
from doctor.evidence.loss_arguments import LossPlace
from doctor.findings import Location, Related


def at(source: Source | None, module: str = "") -> Location:
    """The location of a line, or an empty one."""
    if source is None:
        return Location(module=module or None)
    return Location(path=source.path, line=source.line, module=module or None)


def called(place: LossPlace) -> tuple[Related, ...]:
    """The call of a loss whose finding points to where its criterion is constructed."""
    return related(place.source if place.made else None, "the loss is computed here")


def related(source: Source | None, message: str) -> tuple[Related, ...]:
    """A further place, where it is known."""
    return (Related(location=at(source), message=message),) if source else ()
