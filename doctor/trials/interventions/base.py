"""What all interventions share. They run in the observed process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder

Plan = dict[str, Any]


class Intervention:
    """One treatment applied to one run. Subclasses install themselves in `__init__` and undo it in `remove`.

    `treats` is the `kind` of the treatment that it applies; a subclass that sets it is found by it.
    """

    treats: ClassVar[str] = ""
    known: ClassVar[dict[str, type[Intervention]]] = {}

    def __init_subclass__(cls) -> None:
        """Make the subclass known by what it treats."""
        if cls.treats:
            Intervention.known[cls.treats] = cls

    def __init__(self, plan: Plan, recorder: Recorder) -> None:
        self.plan = plan
        self.recorder = recorder
        self.install()

    def install(self) -> None:
        """Put the treatment in place."""

    def remove(self) -> None:
        """Take it away."""

    def notes(self) -> list[dict[str, Any]]:
        """What it measured, for experiments."""
        return []

    def concerns(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the treatment is meant for this optimizer."""
        wanted = self.plan.get("optimizer")
        known = [watched.index for watched in self.recorder.stepping.all if watched.optimizer() is optimizer]
        return wanted is None or wanted in known

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The living optimizers that it is meant for."""
        alive = [watched.optimizer() for watched in self.recorder.stepping.all]
        return [optimizer for optimizer in alive if optimizer is not None and self.concerns(optimizer)]


class FunctionMode(TorchFunctionMode):
    """Lets `replace(function, its name, args, kwargs)` stand for every torch function."""

    def __init__(self, replace: Callable[[Any, str, Any, Any], Any]) -> None:
        super().__init__()
        self._replace = replace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._replace(func, getattr(func, "__name__", ""), args, kwargs or {})


class WatchingMode(TorchFunctionMode):
    """Shows the result of every torch function to `note`."""

    def __init__(self, note: Callable[[Any], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._note(result)
        return result


class ByFunction(Intervention):
    """A treatment that changes calls of torch functions."""

    def install(self) -> None:
        """In front of every torch function."""
        self._mode = FunctionMode(self.replace)
        self._mode.__enter__()

    def remove(self) -> None:
        """No longer."""
        self._mode.__exit__(None, None, None)

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Call the function, or something else."""
        return func(*args, **kwargs)

    def here(self) -> bool:
        """Whether the running line and module are those of the plan."""
        if self.plan.get("module"):
            stack = self.recorder.stack
            return bool(stack) and self.recorder.naming.place(stack[-1])[1] == self.plan["module"]
        place = self.plan.get("place") or {}
        if not place.get("path"):
            return True
        line = self.recorder.frames.line()
        return line is not None and line[0] == place["path"] and (not place["line"] or line[1] == place["line"])
