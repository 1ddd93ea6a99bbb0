"""How gradients were clipped or changed between backward and step."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class ClipPlace:
    """One line that clips. `norms` are the global norms before the call, `largest` the largest elements,
    `misplaced` the calls between a step and the next backward, `empty` those that found no gradient.
    """

    function: str
    limit: float
    calls: int
    source: Source | None = None
    optimizer: int | None = None
    misplaced: int = 0
    empty: int = 0
    norms: tuple[float, ...] = ()
    largest: tuple[float, ...] = ()
    elements: int = 0

    @property
    def excess(self) -> float:
        """Median of how many times the limit is exceeded (the largest element against a limit of values)."""
        values = self.largest if self.function == "clip_grad_value_" else self.norms
        return median(values) / self.limit if values and self.limit > 0 else 0.0

    @property
    def clipped_share(self) -> float:
        """Share of the calls that had something to clip."""
        values = self.largest if self.function == "clip_grad_value_" else self.norms
        return sum(value > self.limit for value in values) / len(values) if values else 0.0


@dataclass(frozen=True)
class ClipLog(Evidence):
    """All places that clip, and the gradient norm at steps over that after backward (`changes`)."""

    places: tuple[ClipPlace, ...] = ()
    changes: tuple[float, ...] = ()


@probe
def clip_log(recording: Recording) -> ClipLog:
    """Read the places."""
    return ClipLog(
        places=tuple(
            ClipPlace(
                function=event["function"],
                limit=event["limit"],
                calls=event["calls"],
                source=source(event["line"]),
                optimizer=event["optimizer"],
                misplaced=event["misplaced"],
                empty=event["empty"],
                norms=tuple(value for value in event["norms"] if value is not None),
                largest=tuple(value for value in event["largest"] if value is not None),
                elements=event["elements"],
            )
            for event in recording.of("clip")
        ),
        changes=tuple(ratio for event in recording.of("gradient-change") for ratio in event["ratios"]),
    )
