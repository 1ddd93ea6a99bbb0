"""Losses without gradients, after training began."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_LOSSES = ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
           "binary_cross_entropy_with_logits")  # fmt: skip
_MOST = 2000


class EvaluationLossWatch(Watch):
    """The value of every scalar loss that needs no gradient."""

    def install(self) -> None:
        """Listen to losses."""
        self._count = 0
        for name in _LOSSES:
            self.recorder.patches.wrap(nn.functional, name, self._loss)

    def _loss(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        recorder = self.recorder
        evaluates = bool(recorder.step) and not recorder.busy and isinstance(result, torch.Tensor)
        if evaluates and not result.dim() and not result.requires_grad and self._count < _MOST:
            self.guarded(self._note)(result)
        return result

    def _note(self, result: torch.Tensor) -> None:
        value = float(result)
        if math.isfinite(value):
            self._count += 1
            self.recorder.stream.emit(
                "evaluation-loss", step=self.recorder.step, value=value, line=self.recorder.frames.line()
            )
