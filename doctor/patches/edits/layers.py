"""Edits of the model."""

from __future__ import annotations

from doctor.patches.edits.base import Edit


class ActivateBetween(Edit):
    """Put an activation behind the modules at these paths, in their Sequential or around their call."""

    modules: tuple[str, ...]
    function: str = "relu"

    def describe(self) -> str:
        return f"{self.function} after {', '.join(self.modules)}"


class RegisterModules(Edit):
    """Hold the layers that a plain list or dictionary holds in nn.ModuleList or nn.ModuleDict."""

    def describe(self) -> str:
        return "layers held in nn.ModuleList"


class InitialiseRandomly(Edit):
    """Initialise with random weights; `call` is the initialisation and the arguments behind the tensor."""

    call: str = "kaiming_uniform_"
    arguments: str = ""

    def describe(self) -> str:
        return f"nn.init.{self.call} in place of constant weights"
