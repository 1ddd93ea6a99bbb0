"""Treatments of the training loop."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Treatment


class ScaleLearningRate(Treatment):
    """Multiply the learning rate of every step by `factor` (schedules keep their shape)."""

    kind: ClassVar[str] = "scale-learning-rate"
    factor: float

    def describe(self) -> str:
        return f"learning rate x {self.factor:g}"


class SearchLearningRate(Treatment):
    """Run the program at several multiples of its learning rate; the trial reports the sane range and the best.

    `factors` are tried besides 1. The trial replaces this by the `ScaleLearningRate` that did best.
    """

    kind: ClassVar[str] = "search-learning-rate"
    factors: tuple[float, ...]

    def describe(self) -> str:
        return "learning rate x " + ", ".join(f"{factor:g}" for factor in self.factors)


class ClearGradients(Treatment):
    """Clear the gradients of an optimizer's parameters before the first backward that follows its step."""

    kind: ClassVar[str] = "clear-gradients"
    optimizer: int | None = None

    def describe(self) -> str:
        return "gradients cleared before each new backward"


class StepAfterBackward(Treatment):
    """Call `optimizer.step()` after every backward (and clear gradients before the next)."""

    kind: ClassVar[str] = "step-after-backward"
    optimizer: int | None = None

    def describe(self) -> str:
        return "optimizer.step() after each backward"


class BackwardBeforeStep(Treatment):
    """Run backward from the last scalar loss that was computed before each optimizer step."""

    kind: ClassVar[str] = "backward-before-step"
    optimizer: int | None = None

    def describe(self) -> str:
        return "loss.backward() before each step"


class OptimizeReachedParameters(Treatment):
    """Give the optimizer every leaf tensor that the loss reaches and that no optimizer holds."""

    kind: ClassVar[str] = "optimize-reached-parameters"
    optimizer: int | None = None

    def describe(self) -> str:
        return "every parameter that the loss reaches given to the optimizer"


class ClipGradients(Treatment):
    """Clip the global gradient norm before each step."""

    kind: ClassVar[str] = "clip-gradients"
    max_norm: float = 1.0

    def describe(self) -> str:
        return f"gradient norm clipped at {self.max_norm:g}"
