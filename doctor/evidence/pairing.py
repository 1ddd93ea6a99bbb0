"""Whether inputs and targets, as the program pairs them, have anything to do with each other."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence
from doctor.evidence.recording import Recording
from doctor.probes import probe


@dataclass(frozen=True)
class Pairing(Evidence):
    """`explained`: share of the variance of held-out targets that ridge regression explains; `fit_errors` and
    `near_errors`: by how many standard deviations this, and the agreement of nearest neighbours, exceed what targets
    dealt out anew give. `structure`: how much of the inputs' variance lies in few directions, 1 for independent columns.
    `shifted`: what is explained when the targets are moved by `best_shift` samples. `smooth`: of several numbers a
    sample, how the first and the second correlate. `ragged`: rows of ids are texts of many lengths.
    """

    samples: int
    classes: int
    structure: float
    explained: float
    fit_errors: float
    near_errors: float
    best_shift: int = 1
    shifted: float = 0.0
    smooth: float = 0.0
    ragged: bool = False


@probe
def pairing(recording: Recording) -> Pairing:
    """Read it."""
    event = recording.some("pairing", "no samples with one target each were seen")[0]
    return Pairing(**{name: event[name] for name in Pairing.__dataclass_fields__})
