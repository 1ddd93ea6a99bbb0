"""In which order the ids come that models are called with in training."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class IdField:
    """One argument that holds a whole number for each sample. `calls` are first id, last id, and whether the ids between
    never fall, of one call a step.
    """

    name: str
    calls: tuple[tuple[int, int, bool], ...]
    source: Source | None = None

    @property
    def rising(self) -> float:
        """Share of the calls within which ids never fall, and that begin where the one before has ended or later.

        A fall to a lower start than any before, once an epoch, is left out.
        """
        start = min((first for first, _, _ in self.calls), default=0)
        pairs = [(one, two) for one, two in itertools.pairwise(self.calls) if two[0] > start]
        return sum(two[2] and two[0] >= one[1] for one, two in pairs) / max(len(pairs), 1)

    @property
    def starts(self) -> int:
        """With how many different ids calls begin."""
        return len({first for first, _, _ in self.calls})


@dataclass(frozen=True)
class IdOrder(Evidence):
    """All such arguments."""

    fields: tuple[IdField, ...] = ()


@probe
def id_order(recording: Recording) -> IdOrder:
    """Read them."""
    events = recording.some("id-order", "no model was called with one id a sample")
    return IdOrder(
        tuple(
            IdField(event["name"], tuple((a, b, c) for a, b, c in event["calls"]), source(event["line"]))
            for event in events
        )
    )
