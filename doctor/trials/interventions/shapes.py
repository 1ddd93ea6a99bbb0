"""Interventions on shapes, axes, and on how modules are wired."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from doctor.trials.interventions.base import ByFunction, Intervention

_VIEWS = frozenset({"view", "reshape", "unflatten", "view_as", "reshape_as", "_unsafe_view"})
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class PermuteInsteadOfView(ByFunction):
    """A view becomes a permutation."""

    treats = "permute-instead-of-view"

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Split, permute, and take the shape that the view gives."""
        result = func(*args, **kwargs)
        splits = self.plan["splits"]
        if name not in _VIEWS or not args or not isinstance(args[0], torch.Tensor) or args[0].dim() != len(splits):
            return result
        x = args[0]
        if result.shape == x.shape or not self.here():
            return result
        shape: list[int] = []
        for length, parts in zip(x.shape, splits, strict=True):
            rest = 1
            for part in parts[1:]:
                rest *= part
            if length % rest:
                return result
            shape += [length // rest, *parts[1:]]
        return x.reshape(shape).permute(self.plan["order"]).reshape(result.shape)


class ChangeDim(ByFunction):
    """A function is computed over another axis."""

    treats = "change-dim"

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Give it the other axis."""
        if name != self.plan["function"] or not self.here():
            return func(*args, **kwargs)
        if len(args) > 1:
            return func(args[0], self.plan["dim"], *args[2:], **kwargs)
        return func(*args, **{**kwargs, "dim": self.plan["dim"]})


class SeparateCopies(Intervention):
    """Calls after the first one in a forward go to copies, whose parameters are trained like the original's."""

    treats = "separate-copies"

    def install(self) -> None:
        """At every call of the model."""
        self._copies: dict[int, list[nn.Module]] = {}
        self._count: dict[int, int] = {}
        self._new: list[tuple[nn.Module, nn.Module]] = []
        self.recorder.before_entry.append(self._begin)
        self.recorder.before_backward.append(self._train)

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._count.clear()
        for part in module.modules():
            root, path = self.recorder.naming.place(part)
            if path in self.plan["modules"] and root == self.plan["root"] and id(part) not in self._copies:
                self._copies[id(part)] = []
                part.forward = self._dispatcher(part, part.forward)

    def _dispatcher(self, module: nn.Module, original: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            number = self._count.get(id(module), 0)
            self._count[id(module)] = number + 1
            if number == 0:
                return original(*args, **kwargs)
            copies = self._copies[id(module)]
            while len(copies) < number:
                del module.forward
                other = copy.deepcopy(module)
                module.forward = forward
                copies.append(other)
                self._new.append((module, other))
            other = copies[number - 1]
            other.train(module.training)
            return other.forward(*args, **kwargs)

        return forward

    def _train(self, losses: list[torch.Tensor]) -> None:
        new, self._new = self._new, []
        for module, other in new:
            for one, two in zip(module.parameters(), other.parameters(), strict=True):
                two.grad = None
                for optimizer in self.optimizers():
                    for group in optimizer.param_groups:
                        if any(held is one for held in group["params"]):
                            group["params"].append(two)


class InsertResidual(Intervention):
    """Adds the input of modules to their output."""

    treats = "insert-residual"

    def install(self) -> None:
        """After their forwards."""
        self._handle = register_module_forward_hook(self._after)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not args or not isinstance(output, torch.Tensor) or not isinstance(args[0], torch.Tensor):
            return None
        root, path = self.recorder.naming.place(module)
        if path in self.plan["modules"] and root == self.plan["root"] and args[0].shape == output.shape:
            return output + args[0]
        return None


class ScaleDropout(ByFunction):
    """Dropout gets a smaller probability."""

    treats = "scale-dropout"

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Scale it."""
        if name not in ("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout"):
            return func(*args, **kwargs)
        if not self.here():
            return func(*args, **kwargs)
        if len(args) > 1:
            return func(args[0], args[1] * self.plan["factor"], *args[2:], **kwargs)
        return func(*args, **{**kwargs, "p": kwargs.get("p", 0.5) * self.plan["factor"]})


class SetBatchNorm(Intervention):
    """Batch normalisation with another eps, from the first call on."""

    treats = "set-batch-norm"

    def install(self) -> None:
        """At every call of the model."""
        self.recorder.before_entry.append(self._set)

    def _set(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        for part in module.modules():
            if isinstance(part, _NORMS) and self.recorder.naming.place(part)[1] in self.plan["modules"]:
                part.eps = self.plan["eps"]


class BypassModule(Intervention):
    """Modules give back their input."""

    treats = "bypass-module"

    def install(self) -> None:
        """After their forwards."""
        self._handle = register_module_forward_hook(self._after)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self.recorder.naming.place(module)[1] not in self.plan["modules"] or not args:
            return None
        fits = isinstance(args[0], torch.Tensor) and isinstance(output, torch.Tensor) and args[0].shape == output.shape
        return args[0] if fits else None
