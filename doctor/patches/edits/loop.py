"""Edits of the training loop. The optimizer and the loss are found by their names in it."""

from __future__ import annotations

from doctor.patches.edits.base import Edit


class ClearGradients(Edit):
    """Call `optimizer.zero_grad()` before the first backward of each step."""

    def describe(self) -> str:
        return "optimizer.zero_grad() before each new backward"


class CallStep(Edit):
    """Call `optimizer.step()` after the backward on this line."""

    def describe(self) -> str:
        return "optimizer.step() after backward"


class CallBackward(Edit):
    """Call `loss.backward()` before the step on this line."""

    def describe(self) -> str:
        return "loss.backward() before the step"


class ClipGradients(Edit):
    """Clip the gradient norm before the optimizer's step."""

    max_norm: float = 1.0

    def describe(self) -> str:
        return f"gradient norm clipped at {self.max_norm:g}"


class DivideLoss(Edit):
    """Divide the loss by the number of batches that are accumulated."""

    def describe(self) -> str:
        return "loss divided by the number of accumulated batches"


class OptimizeModel(Edit):
    """Give the optimizer `model.parameters()`."""

    def describe(self) -> str:
        return "all of the model's parameters given to the optimizer"
