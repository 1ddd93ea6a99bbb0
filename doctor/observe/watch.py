"""Further things to observe: each a module of `doctor.observe.watches`, found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder

MOMENTS = ("before_entry", "after_entry", "before_backward", "after_backward", "before_step", "after_step")


class Watch:
    """One thing that is observed; a subclass overrides the moments that it needs.

    Every moment runs without gradients, off the tape, and its module calls are not recorded. A moment that raises is
    left out from then on, and the failure is noted: observation never ends the user's program.
    An entry is a call of a module with parameters from outside every module.
    """

    known: ClassVar[list[type[Watch]]] = []

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._failed: set[str] = set()

    def __init_subclass__(cls) -> None:
        """Make the subclass known."""
        Watch.known.append(cls)

    def install(self) -> None:
        """Before the program: patch what is needed through `self.recorder.patches`."""

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A model is called."""

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """It returned."""

    def before_backward(self, losses: list[torch.Tensor]) -> None:
        """Backward is called."""

    def after_backward(self, losses: list[torch.Tensor]) -> None:
        """It returned."""

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer is about to change the parameters."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """It has changed them."""

    def finish(self) -> None:
        """After the program, all hooks gone: experiments on what was captured, and the events of the report."""

    # -- what the recorder calls --------------------------------------------------------------------------------

    def start(self) -> None:
        """Install, and listen to the overridden moments."""
        self.install()
        for moment in MOMENTS:
            if getattr(type(self), moment) is not getattr(Watch, moment):
                self.recorder.watched[moment].append(self._protected(getattr(self, moment)))

    def end(self) -> None:
        """Finish."""
        self.guarded(self.finish)()

    def guarded(self, moment: Callable[..., None]) -> Callable[..., None]:
        """The moment as observation may run it; for callbacks that a subclass patches in itself, too."""
        protected = self._protected(moment)

        def run(*args: Any) -> None:
            if torch.compiler.is_compiling():  # what a compiler traces holds no values
                return
            with self.recorder.aside():
                protected(*args)

        return run

    def _protected(self, moment: Callable[..., None]) -> Callable[..., None]:
        """The moment, left out once it has failed; the recorder runs all of one kind aside together."""
        name = moment.__name__

        def run(*args: Any) -> None:
            if name in self._failed:
                return
            try:
                moment(*args)
            except Exception as failure:
                self._failed.add(name)
                note = f"{type(self).__name__}.{name} failed: {type(failure).__name__}: {failure}"
                self.recorder.notes.append(note[:300])

        return run


def all_for(recorder: Recorder) -> list[Watch]:
    """One of every kind."""
    from doctor.observe import watches

    for module in pkgutil.iter_modules(watches.__path__, f"{watches.__name__}."):
        importlib.import_module(module.name)
    return [kind(recorder) for kind in Watch.known]
