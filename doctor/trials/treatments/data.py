"""Treatments of the batches."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Place, Treatment


class AlignTarget(Treatment):
    """Give prediction and target of the loss the same shape where only axes of length 1 differ."""

    kind: ClassVar[str] = "align-target"
    place: Place = Place()

    def describe(self) -> str:
        return "target reshaped to the prediction's shape"


class StandardiseInputs(Treatment):
    """Standardise the first floating-point input of the root module with these statistics (one value a feature)."""

    kind: ClassVar[str] = "standardise-inputs"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    axis: int = -1
    root: int = 0

    def describe(self) -> str:
        return "inputs standardised to mean 0 and deviation 1"


class ShuffleData(Treatment):
    """Let the training DataLoader draw its samples in random order."""

    kind: ClassVar[str] = "shuffle-data"
    loader: int = 0

    def describe(self) -> str:
        return "training data shuffled"
