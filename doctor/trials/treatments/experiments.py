"""Experiments, which change nothing."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Experiment


class EvaluateInEvalMode(Experiment):
    """Experiment: run each evaluation forward once more in eval mode and compare the outputs."""

    kind: ClassVar[str] = "evaluate-in-eval-mode"
    root: int = 0

    def describe(self) -> str:
        return "evaluation forwards repeated in eval mode"
