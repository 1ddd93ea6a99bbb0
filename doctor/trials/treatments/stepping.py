"""Treatments of what surrounds a step: its gradients, its state, its settings, its rate."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Treatment


class ScaleGradients(Treatment):
    """Multiply all gradients of an optimizer by `factor` before each of its steps."""

    kind: ClassVar[str] = "scale-gradients"
    factor: float
    optimizer: int | None = None

    def describe(self) -> str:
        return f"gradients x {self.factor:.3g} at each step"


class KeepOptimizer(Treatment):
    """Hand the state of an optimizer (momentum, moments) on to the one that is made anew over the same tensors."""

    kind: ClassVar[str] = "keep-optimizer"

    def describe(self) -> str:
        return "optimizer state carried over"


class ScaleWeightDecay(Treatment):
    """Multiply the weight decay of every group by `factor`."""

    kind: ClassVar[str] = "scale-weight-decay"
    factor: float = 0.0
    optimizer: int | None = None

    def describe(self) -> str:
        return f"weight decay x {self.factor:g}" if self.factor else "no weight decay"


class ChangeSettings(Treatment):
    """Step with these settings in every group that has them (`momentum`, `eps`, `dampening`, `betas`)."""

    kind: ClassVar[str] = "change-settings"
    momentum: float | None = None
    dampening: float | None = None
    eps: float | None = None
    alpha: float | None = None
    betas: tuple[float, float] | None = None
    optimizer: int | None = None

    def describe(self) -> str:
        fields = ("momentum", "dampening", "eps", "alpha", "betas")
        return ", ".join(f"{name}={getattr(self, name)}" for name in fields if getattr(self, name) is not None)


class WidenClipping(Treatment):
    """Multiply the limit of every call of `clip_grad_norm_` and `clip_grad_value_` by `factor`."""

    kind: ClassVar[str] = "widen-clipping"
    factor: float

    def describe(self) -> str:
        return f"clipping limit x {self.factor:.3g}"


class Warmup(Treatment):
    """Let the rate of every group rise linearly over the first `steps` steps to what it would be."""

    kind: ClassVar[str] = "warmup"
    steps: int
    optimizer: int | None = None

    def describe(self) -> str:
        return f"learning rate warmed up over {self.steps} steps"


class HoldLearningRate(Treatment):
    """Step at the rate that the optimizer was made with (at the largest so far where that is unknown)."""

    kind: ClassVar[str] = "hold-learning-rate"
    optimizer: int | None = None

    def describe(self) -> str:
        return "learning rate held at the optimizer's own"


class StepOnce(Treatment):
    """Let gradients be used by one step only, and hold each tensor once."""

    kind: ClassVar[str] = "step-once"

    def describe(self) -> str:
        return "one step for each backward"


class UnfreezeParameters(Treatment):
    """Let these parameters learn."""

    kind: ClassVar[str] = "unfreeze-parameters"
    root: int = 0

    def describe(self) -> str:
        return "frozen parameters trained"
