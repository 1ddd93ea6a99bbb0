"""Interventions on the loss."""

from __future__ import annotations

import torch

from doctor.trials.interventions.base import Intervention


class ScaleGradients(Intervention):
    """Multiplies what one backward added to the gradients of the optimizers' parameters."""

    treats = "scale-gradients"

    def install(self) -> None:
        """Around every backward."""
        self._before: dict[int, torch.Tensor] = {}
        self.recorder.before_backward.append(self._remember)
        self.recorder.after_backward.append(self._scale)

    def _parameters(self) -> list[torch.Tensor]:
        return [p for optimizer in self.optimizers() for group in optimizer.param_groups for p in group["params"]]

    def _remember(self, losses: list[torch.Tensor]) -> None:
        self._before = {id(p): p.grad.clone() for p in self._parameters() if p.grad is not None}

    def _scale(self, losses: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for parameter in self._parameters():
                if parameter.grad is None:
                    continue
                before = self._before.get(id(parameter))
                if before is None:
                    parameter.grad.mul_(self.plan["factor"])
                else:
                    parameter.grad.sub_(before).mul_(self.plan["factor"]).add_(before)
        self._before = {}
