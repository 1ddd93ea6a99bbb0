"""The reference model on the program's own samples."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence
from doctor.evidence.recording import Recording
from doctor.probes import probe


@dataclass(frozen=True)
class ReferenceRun(Evidence):
    """Held-out losses of a small model trained on samples that the program trained on.

    `loss` with the targets as they were paired, `shuffled` with targets dealt out anew, `baseline` of the best constant
    prediction; `error` is the standard error of `shuffled - loss`. Cross-entropy for class ids, else the squared error
    of standardised targets.
    """

    kind: str
    samples: int
    loss: float
    shuffled: float
    baseline: float
    error: float

    @property
    def learns(self) -> bool:
        """Whether the samples hold something to learn: clearly better than shuffled, and than a constant."""
        return self.shuffled - self.loss > 3 * self.error and self.loss < 0.97 * min(self.baseline, self.shuffled)

    @property
    def finds_nothing(self) -> bool:
        """Whether pairing the targets at random makes no difference."""
        return abs(self.shuffled - self.loss) < 2 * self.error or self.loss > 0.99 * self.baseline


@probe
def reference_run(recording: Recording) -> ReferenceRun:
    """Read it; not every program gives samples that fit a reference model."""
    event = recording.some("reference", "no samples were seen on which a reference model can be trained")[0]
    fields = ("kind", "samples", "loss", "shuffled", "baseline", "error")
    return ReferenceRun(**{name: event[name] for name in fields})
