"""Interventions on parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.trials.interventions.base import Intervention


class RescaleParameters(Intervention):
    """Scales parameters before the first forward with gradients."""

    treats = "rescale-parameters"

    def install(self) -> None:
        """Before entry calls."""
        self._due = True
        self.recorder.before_entry.append(self._scale)

    def _scale(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self._due or self.recorder.step or not torch.is_grad_enabled():
            return
        factors = dict(self.plan["factors"])
        found = [
            (factors[name], parameter)
            for _, root in self.recorder.naming.live_roots()
            for parameter in root.parameters()
            for name in [self.recorder.naming.parameter(parameter)]
            if name in factors
        ]
        if found:
            self._due = False
            with torch.no_grad():
                for factor, parameter in found:
                    parameter.mul_(factor)


class GroupRate(Intervention):
    """Gives groups at rate 0 the rate of the others, for the moment of each step."""

    treats = "group-rate"

    def install(self) -> None:
        """Around every step."""
        self._saved: list[tuple[dict[str, Any], Any]] = []
        self.recorder.before_step.append(self._raise)
        self.recorder.after_step.append(self._restore)

    def _raise(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.concerns(optimizer):
            return
        highest = max((float(group.get("lr", 0.0)) for group in optimizer.param_groups), default=0.0)
        for group in optimizer.param_groups:
            if "lr" in group and float(group["lr"]) == 0.0 and highest:
                self._saved.append((group, group["lr"]))
                group["lr"] = highest

    def _restore(self, optimizer: torch.optim.Optimizer) -> None:
        while self._saved:
            group, rate = self._saved.pop()
            group["lr"] = rate
