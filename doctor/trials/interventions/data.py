"""Interventions on batches: inputs, targets, order."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from doctor.trials.interventions.base import ByFunction, Intervention


class StandardiseInputs(Intervention):
    """Standardises the first floating-point input of the root."""

    treats = "standardise-inputs"

    def install(self) -> None:
        """Before entry calls."""
        self._mean, self._std = torch.tensor(self.plan["mean"]), torch.tensor(self.plan["std"]).clamp_min(1e-12)
        self._handle = register_module_forward_pre_hook(self._before)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _before(self, module: nn.Module, args: Any) -> Any:
        if len(self.recorder.stack) != 1 or self.recorder.naming.place(module)[0] != self.plan["root"]:
            return None
        changed, done = [], False
        for value in args:
            if not done and self._fits(value):
                shape = [1] * value.dim()
                shape[self.plan["axis"]] = -1
                mean, std = self._mean.to(value).view(shape), self._std.to(value).view(shape)
                changed.append((value - mean) / std)
                done = True
            else:
                changed.append(value)
        return tuple(changed) if done else None

    def _fits(self, value: Any) -> bool:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.requires_grad:
            return False
        axis = self.plan["axis"]
        return value.dim() > axis and value.shape[axis] == len(self._mean)


class ShuffleData(Intervention):
    """Makes one DataLoader draw at random."""

    treats = "shuffle-data"

    def install(self) -> None:
        """When it is built."""
        self.recorder.loaders.on_created = self._created

    def _created(self, index: int, args: Any, kwargs: Any) -> Any:
        if index != self.plan["loader"]:
            return args, kwargs
        dataset = args[0] if args else kwargs.get("dataset")
        if isinstance(dataset, torch.utils.data.IterableDataset):
            return args, kwargs
        if len(args) > 2:
            args = (*args[:2], True, *args[3:])
        else:
            kwargs = {**kwargs, "shuffle": True}
        kwargs.pop("sampler", None)
        return args, kwargs


class AlignTarget(ByFunction):
    """Two operands that differ by an axis of length 1 get one shape."""

    treats = "align-target"

    _functions = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "sub", "rsub", "__sub__", "__rsub__",
                            "__mul__", "mul"})  # fmt: skip

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Reshape the second like the first."""
        pair = [value for value in args[:2] if isinstance(value, torch.Tensor)]
        if len(pair) < 2:
            pair = [kwargs[key] for key in ("input", "target") if key in kwargs] if not args else pair
        if name in self._functions and len(pair) == 2 and pair[0].shape != pair[1].shape and self.here():
            one, two = pair
            if one.numel() == two.numel():
                if len(args) >= 2:
                    args = (one, two.reshape(one.shape), *args[2:])
                else:
                    kwargs = {**kwargs, "target": two.reshape(one.shape)}
        return func(*args, **kwargs)
