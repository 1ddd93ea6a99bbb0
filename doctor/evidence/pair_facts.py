"""What inputs and targets of the training samples say of each other."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence
from doctor.evidence.recording import Recording
from doctor.probes import probe


@dataclass(frozen=True)
class PairFacts(Evidence):
    """Over the distinct inputs of the first training batches.

    `contradicted` counts the inputs that stand with more than one label; `lonely` is the share of the samples whose
    eight nearest neighbours agree on a label (six or more) while none has the sample's own, None where it could not be
    told; `flipped`, of two classes, the share of labels among clear surroundings of the other class. Of the `columns` of
    a table, by index: `constant` ones, those `telling` the target (one value a class, or a correlation of 0.999), and those
    `counting` the samples. Of windows `(steps, features)`, their `shape`, `telling` are the places that hold the target.
    """

    samples: int
    classes: int = 0
    contradicted: int = 0
    lonely: float | None = None
    flipped: float | None = None
    columns: int = 0
    constant: tuple[int, ...] = ()
    telling: tuple[int, ...] = ()
    counting: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()


@probe
def pair_facts(recording: Recording) -> PairFacts:
    """Read them."""
    event = recording.some("pair-facts", "no samples with one target each were seen")[0]
    return PairFacts(
        samples=event["samples"],
        classes=event["classes"],
        contradicted=event["contradicted"],
        lonely=event["lonely"],
        flipped=event.get("flipped"),
        columns=event["columns"],
        constant=tuple(event["constant"]),
        telling=tuple(event["telling"]),
        counting=tuple(event["counting"]),
        shape=tuple(event.get("shape", ())),
    )
