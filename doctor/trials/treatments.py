"""Treatments: remedies in executable form, as plain data.

A rule attaches one to its finding; `doctor.trials.interventions` knows how to apply it to a running program.
Nothing here imports torch. `kind` names the intervention and is what travels to the observed process.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Treatment(BaseModel):
    """One intervention on the program. Subclasses set `kind` and say in `describe` what is changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    kind: ClassVar[str] = ""

    def describe(self) -> str:
        """The change in plain words, as it stands in the report."""
        raise NotImplementedError

    def plan(self) -> dict[str, object]:
        """What the observed process is told: `kind` and the fields, as JSON values."""
        return {"kind": self.kind, **self.model_dump(mode="json")}


class Place(BaseModel):
    """A line of the user's code; `line` 0 means anywhere in the file, an empty path anywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    path: str = ""
    line: int = 0


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


class AlignTarget(Treatment):
    """Give prediction and target of the loss the same shape where only axes of length 1 differ."""

    kind: ClassVar[str] = "align-target"
    place: Place = Place()

    def describe(self) -> str:
        return "target reshaped to the prediction's shape"


class ClipGradients(Treatment):
    """Clip the global gradient norm before each step."""

    kind: ClassVar[str] = "clip-gradients"
    max_norm: float = 1.0

    def describe(self) -> str:
        return f"gradient norm clipped at {self.max_norm:g}"


class Reinitialise(Treatment):
    """Draw the parameters of these modules anew with PyTorch's default initialisation, before the first step."""

    kind: ClassVar[str] = "reinitialise"
    modules: tuple[str, ...]

    def describe(self) -> str:
        return f"default initialisation of {', '.join(self.modules)}"


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


class EvaluateInEvalMode(Treatment):
    """Experiment: run each evaluation forward once more in eval mode and compare the outputs."""

    kind: ClassVar[str] = "evaluate-in-eval-mode"
    root: int = 0

    def describe(self) -> str:
        return "evaluation forwards repeated in eval mode"
