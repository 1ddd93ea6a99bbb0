"""Intervention on values that stand for missing ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from doctor.trials.interventions.base import Intervention


class ImputeSentinels(Intervention):
    """Before entry calls."""

    treats = "impute-sentinels"

    def install(self) -> None:
        """Hook on."""
        self._handle = register_module_forward_pre_hook(self._before)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _before(self, module: nn.Module, args: Any) -> Any:
        if len(self.recorder.stack) != 1 or self.recorder.naming.place(module)[0] != self.plan["root"] or not args:
            return None
        return tuple(self._imputed(value) for value in args)

    def _imputed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dim() != 2:
            return value
        changed = value.clone()
        for column, sentinel, median in zip(
            self.plan["columns"], self.plan["values"], self.plan["medians"], strict=True
        ):
            if column < value.shape[1]:
                changed[:, column] = torch.where(value[:, column] == sentinel, median, value[:, column])
        return changed
