"""Dropout at work: where, how much, and how its noise compares with what the model tells samples apart by."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class DropoutPlace:
    """One place where dropout was applied in training. `on_data` when its input needs no gradient: it is the batch."""

    p: float
    shape: tuple[int, ...]
    source: Source | None = None
    module: str = ""
    root: int = 0
    on_data: bool = False


@dataclass(frozen=True)
class DropoutNoise:
    """Output of a model for one training batch under several masks: variance between samples, and between masks."""

    root: int
    signal: float
    noise: float

    @property
    def ratio(self) -> float:
        """Signal to noise."""
        return self.signal / self.noise if self.noise > 0 else float("inf")


@dataclass(frozen=True)
class DropoutLog(Evidence):
    """All places in order of first use, and the noise by root."""

    places: tuple[DropoutPlace, ...] = ()
    noise: tuple[DropoutNoise, ...] = ()

    def ratio(self, root: int) -> float | None:
        """Signal to noise of one root's output, where it was measured."""
        return next((record.ratio for record in self.noise if record.root == root), None)


@probe
def dropout_log(recording: Recording) -> DropoutLog:
    """Read the places and the noise."""
    places = tuple(
        DropoutPlace(
            event["p"], tuple(event["shape"]), source(event["line"]), event["path"], event["root"], event["on_data"]
        )
        for event in recording.some("dropout", "no dropout was applied in training")
    )
    noise = tuple(DropoutNoise(e["root"], e["signal"], e["noise"]) for e in recording.of("dropout-noise"))
    return DropoutLog(places, noise)
