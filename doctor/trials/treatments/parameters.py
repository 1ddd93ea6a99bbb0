"""Treatments of the parameters."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Treatment


class RescaleParameters(Treatment):
    """Multiply parameters by these factors (name and factor), once, before the first step."""

    kind: ClassVar[str] = "rescale-parameters"
    factors: tuple[tuple[str, float], ...]

    def describe(self) -> str:
        shown = ", ".join(f"{name} x {factor:.2g}" for name, factor in self.factors[:3])
        return f"initial weights rescaled: {shown}{' ...' if len(self.factors) > 3 else ''}"


class GroupRate(Treatment):
    """Step parameter groups whose rate is 0 at the optimizer's largest rate."""

    kind: ClassVar[str] = "group-rate"
    optimizer: int | None = None

    def describe(self) -> str:
        return "the other groups' learning rate for the groups at rate 0"
