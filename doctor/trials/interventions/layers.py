"""Interventions on the model: initialisation and activation functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from doctor.trials.interventions.base import ByFunction, Intervention


class Reinitialise(Intervention):
    """Draws the parameters of some modules anew, before the first forward."""

    treats = "reinitialise"

    def install(self) -> None:
        """At the first call of a module."""
        self._done: set[int] = set()
        self._handle = register_module_forward_pre_hook(self._before)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _before(self, module: nn.Module, args: Any) -> None:
        if len(self.recorder.stack) != 1 or id(module) in self._done or self.recorder.step > 0:
            return
        self._done.add(id(module))
        with torch.random.fork_rng(devices=[]):
            for part in module.modules():
                if self.recorder.naming.place(part)[1] in self.plan["modules"]:
                    for inner in part.modules():
                        reset = getattr(inner, "reset_parameters", None)
                        if callable(reset):
                            reset()


class InsertActivation(Intervention):
    """Applies an activation to the outputs of some modules."""

    treats = "insert-activation"

    def install(self) -> None:
        """After their forwards."""
        self._function: Callable[[torch.Tensor], torch.Tensor] = getattr(torch.nn.functional, self.plan["function"])
        self._handle = register_module_forward_hook(self._after)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self.recorder.naming.place(module)[1] in self.plan["modules"] and isinstance(output, torch.Tensor):
            return self._function(output)
        return None


class BypassActivation(ByFunction):
    """An activation becomes the identity at one place."""

    treats = "bypass-activation"

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Leave it out."""
        if name.rstrip("_") == self.plan["function"] and self.here():
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


class ReplaceActivation(ByFunction):
    """One activation is computed by another."""

    treats = "replace-activation"

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Compute the other."""
        if name.rstrip("_") == self.plan["function"] and torch.is_tensor(args[0] if args else None):
            return getattr(torch.nn.functional, self.plan["replacement"])(args[0])
        return func(*args, **kwargs)
