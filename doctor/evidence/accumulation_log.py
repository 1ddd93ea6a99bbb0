"""Several backwards before one step."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, sources
from doctor.probes import probe


@dataclass(frozen=True)
class Window:
    """What lies between two steps: backwards, batches drawn from DataLoaders, lines that call backward."""

    backwards: int
    batches: int = 0
    places: int = 1


@dataclass(frozen=True)
class AccumulationLog(Evidence):
    """The windows of the only optimizer, where some hold several backwards.

    `ratios` are loss over criterion by backward (None where several criteria or none were computed), `heads` the names
    of the last operation of each loss.
    """

    optimizer: int | None = None
    windows: tuple[Window, ...] = ()
    ratios: tuple[float | None, ...] = ()
    heads: tuple[str, ...] = ()
    reductions: tuple[str, ...] = ()
    lines: tuple[Source, ...] = ()


@probe
def accumulation_log(recording: Recording) -> AccumulationLog:
    """Read the windows."""
    for event in recording.of("accumulation"):
        return AccumulationLog(
            optimizer=event["optimizer"],
            windows=tuple(Window(**window) for window in event["windows"]),
            ratios=tuple(event["ratios"]),
            heads=tuple(event["heads"]),
            reductions=tuple(event["reductions"]),
            lines=tuple(sources(event["lines"])),
        )
    return AccumulationLog()
