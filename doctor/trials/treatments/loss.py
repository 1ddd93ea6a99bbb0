"""Treatments of the loss."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Treatment


class ScaleGradients(Treatment):
    """Multiply the gradients of every backward by `factor`, as if the loss had been; its value stays as it is, so that
    both arms report the same quantity.
    """

    kind: ClassVar[str] = "scale-gradients"
    factor: float

    def describe(self) -> str:
        return f"loss scaled by {self.factor:.3g} for the gradients"
