"""Edits of the training loop and of the optimizer's settings."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.findings import Finding
from doctor.patches.edits import (
    CallBackward,
    CallStep,
    ClearGradients,
    ClipGradients,
    DivideLoss,
    Edit,
    OptimizeModel,
    ReplaceArgument,
)
from doctor.patches.prescriptions import chosen, prescribes

_CLIPPING = ("clip_grad_norm_", "clip_grad_value_", "clip_gradients", "clip_grad_norm")


def both(edit: ReplaceArgument) -> Iterator[ReplaceArgument]:
    """Where the value comes from; else, when that does not help, in the call itself."""
    yield edit
    yield edit.model_copy(update={"follow": False})


@prescribes("search-learning-rate", "scale-learning-rate", "lr-too-high", "lr-too-low")
def learning_rate(finding: Finding) -> Iterator[Edit]:
    """The best rate of the trial."""
    rates = finding.effect.rates if finding.effect else ()
    best = next((rate.learning_rate for rate in rates if rate.best and rate.factor != 1.0), None)
    if best is not None:
        yield from both(ReplaceArgument(keyword="lr", value=best, position=1))
        yield ReplaceArgument(call=("TrainingArguments",), keyword="learning_rate", value=best, anywhere=True)
        yield ReplaceArgument(keyword="lr", value=best, anywhere=True)


@prescribes("clear-gradients", "missing-zero-grad")
def clear(finding: Finding) -> Iterator[Edit]:
    """`optimizer.zero_grad()`."""
    yield ClearGradients()


@prescribes("step-after-backward")
def step(finding: Finding) -> Iterator[Edit]:
    """`optimizer.step()`."""
    yield CallStep()


@prescribes("backward-before-step")
def backward(finding: Finding) -> Iterator[Edit]:
    """`loss.backward()`."""
    yield CallBackward()


@prescribes("optimizer-missing-params")
def parameters(finding: Finding) -> Iterator[Edit]:
    """`model.parameters()`."""
    yield OptimizeModel()


@prescribes("accumulation-unscaled")
def accumulation(finding: Finding) -> Iterator[Edit]:
    """`(loss / k).backward()`."""
    yield DivideLoss()


@prescribes("clip-too-small")
def clip(finding: Finding) -> Iterator[Edit]:
    """A norm of 1."""
    value = chosen(finding, "max_norm", "clip_value", "value") or 1.0
    yield from both(ReplaceArgument(call=_CLIPPING, keyword="max_norm", value=value, position=1, add=False))
    yield from both(ReplaceArgument(call=_CLIPPING, keyword="clip_value", value=value, position=1, add=False))
    for keyword in ("max_grad_norm", "gradient_clip_val", "max_norm"):
        yield ReplaceArgument(keyword=keyword, value=value, anywhere=True, add=False)


@prescribes("clip-gradients", "exploding-gradients")
def clipping(finding: Finding) -> Iterator[Edit]:
    """A call of clip_grad_norm_."""
    yield ClipGradients(max_norm=chosen(finding, "max_norm") or 1.0)


@prescribes("excess-weight-decay")
def weight_decay(finding: Finding) -> Iterator[Edit]:
    """A usual one."""
    value = chosen(finding, "weight_decay", "value")
    value = 1e-4 if value is None else value
    yield from both(ReplaceArgument(keyword="weight_decay", value=value, add=False))
    yield ReplaceArgument(keyword="weight_decay", value=value, add=False, anywhere=True)


@prescribes("bad-momentum")
def momentum(finding: Finding) -> Iterator[Edit]:
    """The usual ones, for what the call sets."""
    yield from both(ReplaceArgument(keyword="betas", value="(0.9, 0.999)", add=False))
    yield from both(ReplaceArgument(keyword="momentum", value=chosen(finding, "momentum") or 0.9, add=False))
    yield ReplaceArgument(keyword="eps", value="1e-8", add=False)
    yield ReplaceArgument(keyword="alpha", value=0.99, add=False)
