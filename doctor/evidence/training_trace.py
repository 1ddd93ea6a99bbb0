"""The vitals: what was measured at every optimizer step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class Step:
    """Vitals of one optimizer step.

    `loss` is the value on which backward was called since the optimizer's last step (mean over several
    backwards; None when there was none). `gradient_norm` is the global L2 norm over the optimizer's parameters as
    the step saw it (after any clipping), `parameter_norm` likewise before the step. `update_ratio` is
    |parameters after - before| / |parameters before| (on a fixed sample of the elements of large tensors).
    """

    index: int
    optimizer: int
    loss: float | None
    learning_rate: float
    gradient_norm: float | None
    parameter_norm: float | None
    update_ratio: float | None
    backwards: int = 1


@dataclass(frozen=True)
class TrainingTrace(Evidence):
    """All observed steps, in order, over all optimizers."""

    steps: tuple[Step, ...]
    loss_source: Source | None = None

    def of(self, optimizer: int) -> tuple[Step, ...]:
        """The steps of one optimizer."""
        return tuple(step for step in self.steps if step.optimizer == optimizer)

    @cached_property
    def optimizers(self) -> tuple[int, ...]:
        """Indices of the optimizers that stepped."""
        return tuple(sorted({step.optimizer for step in self.steps}))

    def losses(self, optimizer: int | None = None) -> tuple[float, ...]:
        """The known losses by step, of one optimizer or of all."""
        steps = self.steps if optimizer is None else self.of(optimizer)
        return tuple(step.loss for step in steps if step.loss is not None)

    def first_non_finite_step(self) -> Step | None:
        """The first step whose loss or gradient norm is NaN or infinite."""
        for step in self.steps:
            values = (step.loss, step.gradient_norm)
            if any(value is not None and not math.isfinite(value) for value in values):
                return step
        return None

    def loss_level(self, optimizer: int, first: bool, share: float = 0.25) -> float | None:
        """Mean loss over the first or last `share` of an optimizer's steps (at least 3)."""
        losses = self.losses(optimizer)
        if not losses:
            return None
        count = min(len(losses), max(3, round(len(losses) * share)))
        return fmean(losses[:count] if first else losses[-count:])

    def stands_still(self, progress: float = 0.02) -> bool:
        """Whether one optimizer trains and its loss has not fallen by this share of its level (at least 12 steps)."""
        if len(self.optimizers) != 1 or len(self.losses()) < 12:
            return False
        first, last = self.loss_level(self.optimizers[0], True), self.loss_level(self.optimizers[0], False)
        return first is not None and last is not None and not first - last >= progress * abs(first)

    def typical_update_ratio(self, optimizer: int) -> float | None:
        """Median update ratio over an optimizer's steps."""
        ratios = [step.update_ratio for step in self.of(optimizer) if step.update_ratio is not None]
        return median(ratios) if ratios else None


@probe
def training_trace(recording: Recording) -> TrainingTrace:
    """Read the vitals."""
    steps = tuple(
        Step(
            index=event["index"],
            optimizer=event["optimizer"],
            loss=event["loss"],
            learning_rate=event["lr"],
            gradient_norm=event["gradient_norm"],
            parameter_norm=event["parameter_norm"],
            update_ratio=event["update_ratio"],
            backwards=event["backwards"],
        )
        for event in recording.some("step", "the program made no optimizer step")
    )
    return TrainingTrace(steps, source((recording.end.get("sources") or {}).get("backward")))
