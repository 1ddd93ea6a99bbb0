"""Treatments of the model."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Place, Treatment


class BypassActivation(Treatment):
    """Make an activation function (`softmax`, `sigmoid`, `log_softmax`, `relu`, `tanh`) the identity at one place.

    The call is recognised by the user's line or, for a module, by its path.
    """

    kind: ClassVar[str] = "bypass-activation"
    function: str
    place: Place = Place()
    module: str = ""

    def describe(self) -> str:
        return f"{self.function} left out"


class InsertActivation(Treatment):
    """Apply `function` to the output of the modules at these paths."""

    kind: ClassVar[str] = "insert-activation"
    modules: tuple[str, ...]
    function: str = "relu"

    def describe(self) -> str:
        return f"{self.function} after {', '.join(self.modules)}"


class ReplaceActivation(Treatment):
    """Compute one activation function by another (`sigmoid` by `relu`, `relu` by `leaky_relu`)."""

    kind: ClassVar[str] = "replace-activation"
    function: str
    replacement: str
    modules: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"{self.replacement} instead of {self.function}"


class Reinitialise(Treatment):
    """Draw the parameters of these modules anew with PyTorch's default initialisation, before the first step."""

    kind: ClassVar[str] = "reinitialise"
    modules: tuple[str, ...]

    def describe(self) -> str:
        return f"default initialisation of {', '.join(self.modules)}"
