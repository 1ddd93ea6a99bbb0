"""Interventions of the differential diagnosis: no cures, but questions to the program."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Treatment


class RepeatBatch(Treatment):
    """The first batch again and again."""

    kind: ClassVar[str] = "repeat-batch"

    def describe(self) -> str:
        return "one batch, repeated"


class DealTargets(Treatment):
    """The targets of every loss are dealt out anew among the samples of their batch."""

    kind: ClassVar[str] = "deal-targets"

    def describe(self) -> str:
        return "targets dealt out at random"


class ReferenceOptimizer(Treatment):
    """Clean gradients and Adam at `learning_rate` over every parameter that the loss reaches, in place of the
    program's own optimization.
    """

    kind: ClassVar[str] = "reference-optimizer"
    learning_rate: float = 1e-3

    def describe(self) -> str:
        return f"Adam at {self.learning_rate:g} over every parameter"
