"""How much outputs differ from sample to sample, at the first steps and at the last."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class Spread:
    """Deviation between the samples of a batch over the root mean square of the outputs `(samples, values)`."""

    root: int
    first: float
    last: float
    step: int = 0  # of `last`
    source: Source | None = None


@dataclass(frozen=True)
class OutputSpread(Evidence):
    """Of every model that gives several numbers a sample."""

    spreads: tuple[Spread, ...] = ()


@probe
def output_spread(recording: Recording) -> OutputSpread:
    """Read it."""
    events = recording.some("output-spread", "no model gave several numbers a sample in training")
    return OutputSpread(
        tuple(Spread(e["place"][0], e["first"], e["last"], e["step"], source(e["line"])) for e in events)
    )
