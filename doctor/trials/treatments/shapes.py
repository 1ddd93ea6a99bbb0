"""Treatments of shapes and axes."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Place, Treatment


class PermuteInsteadOfView(Treatment):
    """At one line, permute a tensor where it is viewed as another shape.

    Each input axis is split into parts of the lengths in `splits` (one part: left whole; the first of several is worked
    out), the parts are brought into the order `order`, and the result gets the shape that the view would have given.
    """

    kind: ClassVar[str] = "permute-instead-of-view"
    place: Place
    splits: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    def describe(self) -> str:
        return "permute instead of view"


class ChangeDim(Treatment):
    """Compute one function (`softmax`, `log_softmax`) over another axis at one line."""

    kind: ClassVar[str] = "change-dim"
    function: str
    dim: int
    place: Place = Place()

    def describe(self) -> str:
        return f"{self.function} over dim={self.dim}"


class SeparateCopies(Treatment):
    """From its second call in a forward on, a module is replaced by trained copies of its own."""

    kind: ClassVar[str] = "separate-copies"
    modules: tuple[str, ...]
    root: int = 0

    def describe(self) -> str:
        return f"a copy of its own for every call of {', '.join(self.modules)}"


class InsertResidual(Treatment):
    """Add its input to the output of these modules where both have one shape."""

    kind: ClassVar[str] = "insert-residual"
    modules: tuple[str, ...]
    root: int = 0

    def describe(self) -> str:
        return f"skip connections around {len(self.modules)} modules"


class ScaleDropout(Treatment):
    """Multiply the dropout probability by `factor` at one line, for one module, or everywhere."""

    kind: ClassVar[str] = "scale-dropout"
    factor: float
    place: Place = Place()
    module: str = ""

    def describe(self) -> str:
        return f"dropout probability x {self.factor:g}" if self.factor else "dropout left out"


class SetBatchNorm(Treatment):
    """Give batch normalisation layers another `eps`."""

    kind: ClassVar[str] = "set-batch-norm"
    eps: float
    modules: tuple[str, ...]

    def describe(self) -> str:
        return f"eps={self.eps:g} in {len(self.modules)} batch norm layers"


class BypassModule(Treatment):
    """These modules give back their input."""

    kind: ClassVar[str] = "bypass-module"
    modules: tuple[str, ...]

    def describe(self) -> str:
        return f"{', '.join(self.modules)} left out"
