"""Values of losses without gradients, after training began."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class EvaluationLosses(Evidence):
    """Pairs of (step, loss) at the line where losses were first computed without gradients."""

    values: tuple[tuple[int, float], ...] = ()
    source: Source | None = None

    def by_evaluation(self) -> tuple[float, ...]:
        """Mean by step at which the evaluation took place."""
        steps = dict.fromkeys(step for step, _ in self.values)
        return tuple(fmean(value for at, value in self.values if at == step) for step in steps)


@probe
def evaluation_losses(recording: Recording) -> EvaluationLosses:
    """Read the values."""
    events = recording.some("evaluation-loss", "no loss was computed without gradients")
    first = events[0]["line"]
    own = [event for event in events if event["line"] == first]
    return EvaluationLosses(tuple((event["step"], event["value"]) for event in own), source(first))
