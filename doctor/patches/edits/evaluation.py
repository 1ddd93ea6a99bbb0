"""Edits of what surrounds training and evaluation."""

from __future__ import annotations

from doctor.patches.edits.base import Edit


class EnterEvalMode(Edit):
    """Call `model.eval()` before the forwards on this line and `model.train()` behind them.

    `mode` and `no_grad` say which of both is missing; gradients are switched off where no code around does it.
    """

    mode: bool = True
    no_grad: bool = True

    def describe(self) -> str:
        return "model.eval() for the evaluation" if self.mode else "no gradients in the evaluation"


class EnterTrainMode(Edit):
    """Call `model.train()` before the training loop around this line."""

    def describe(self) -> str:
        return "model.train() before training goes on"
