"""Treatments of targets."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Experiment, Place, Treatment


class StandardiseTargets(Treatment):
    """Let the model predict targets of mean 0 and deviation 1.

    The prediction is multiplied by `std` and moved by `mean` in front of the loss, and its gradient scaled as if the
    loss were that of standardised targets; so the loss is still measured in the program's own units.
    """

    kind: ClassVar[str] = "standardise-targets"
    mean: float
    std: float
    place: Place = Place()

    def describe(self) -> str:
        return "targets standardised to mean 0 and deviation 1"


class WeightClasses(Experiment):
    """Weight each class by the inverse of its frequency; `control` is the mean recall without."""

    kind: ClassVar[str] = "weight-classes"
    counts: tuple[int, ...]
    control: float
    place: Place = Place()

    def describe(self) -> str:
        return "classes weighted by the inverse of their frequency"
