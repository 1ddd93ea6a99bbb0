"""The reference model: the training code's own, as the user names it."""

from __future__ import annotations

import copy
import inspect
from functools import cached_property
from typing import Any

import torch

from doctor.parity.tensors import Tensors, flattened


class Reference:
    """A module that the factory builds, in eval mode, and how it is called.

    `settled` says whether two builds under different seeds have the same weights: only then are its outputs those of
    a trained model (or of one fixed on purpose), and not of a fresh initialisation.
    """

    def __init__(self, module: Any, model: torch.nn.Module, *, settled: bool) -> None:
        self._module, self.settled = module, settled
        self.model = model.cpu().eval()
        self.parameters = [
            parameter
            for parameter in inspect.signature(self.model.forward).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY, parameter.POSITIONAL_ONLY)
        ]

    @property
    def names(self) -> list[str]:
        """The names of forward's parameters, in order."""
        return [parameter.name for parameter in self.parameters]

    @property
    def required(self) -> list[str]:
        """Those without a default."""
        return [parameter.name for parameter in self.parameters if parameter.default is parameter.empty]

    def arguments(self, given: Tensors) -> Tensors:
        """The given inputs under the names of forward's parameters: by name where all fit, else by position."""
        if not self.names:  # forward(*inputs)
            return dict(given)
        if set(self.required) <= set(given):
            return {name: value for name, value in given.items() if name in self.names}
        positional = list(given.values())[: max(len(self.names), 1)]
        return dict(zip(self.names, positional, strict=False))

    def __call__(self, arguments: Tensors, model: torch.nn.Module | None = None, *, seed: int | None = 0) -> Tensors:
        """Its outputs, flat; a copy of the arguments is passed, since a model may write into them."""
        model = model or self.model
        kinds = {parameter.name: parameter.kind for parameter in self.parameters}
        first = [v.clone() for name, v in arguments.items() if kinds.get(name) is inspect.Parameter.POSITIONAL_ONLY]
        others = {
            name: value.clone()
            for name, value in arguments.items()
            if kinds.get(name) is not inspect.Parameter.POSITIONAL_ONLY
        }
        if seed is not None:
            torch.manual_seed(seed)
        with torch.no_grad():
            if not kinds:  # forward(*args): the names are not its own
                return flattened(model(*others.values()))
            return flattened(model(*first, **others))

    def variant(self) -> torch.nn.Module:
        """A copy to change."""
        return copy.deepcopy(self.model).eval()

    @cached_property
    def _samples(self) -> Tensors | None:
        for owner in (self._module, self.model):
            for name in ("sample_inputs", "example_inputs", "example_input_array"):
                found = getattr(owner, name, None)
                if found is None or isinstance(found, torch.nn.Module):
                    continue
                try:
                    tensors = flattened(found() if callable(found) else found)
                except Exception:  # it needs arguments, or data that are not here
                    continue
                if tensors:
                    return self.arguments(tensors)
        return None

    def samples(self) -> Tensors | None:
        """What `sample_inputs()` (or `example_inputs`) beside the factory or on the model gives; always the same."""
        return self._samples

    @property
    def file(self) -> str:
        """The module's own file."""
        return str(getattr(self._module, "__file__", "") or "")
