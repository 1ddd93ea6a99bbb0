"""Where each parameter was registered, and tensors that are registered in two places."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from doctor.observe.frames import Line
from doctor.observe.watch import Watch


class RegistrationWatch(Watch):
    """Every registration of a parameter, and every loading of a state."""

    def install(self) -> None:
        """Listen to registrations and loads."""
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], Line | None, weakref.ref[nn.Module], str]] = {}
        self._ties: list[tuple[weakref.ref[nn.Module], str, weakref.ref[nn.Module], str, Line | None]] = []
        self._loads: list[Line] = []
        self.recorder.patches.wrap(nn.Module, "register_parameter", self._registered)
        self.recorder.patches.wrap(nn.Module, "load_state_dict", self._loaded)

    def _registered(self, original: Any, module: nn.Module, name: str, param: Any, *rest: Any, **kwargs: Any) -> Any:
        result = original(module, name, param, *rest, **kwargs)
        if isinstance(param, nn.Parameter) and not self.recorder.busy:
            self.guarded(self._note)(module, name, param)
        return result

    def _note(self, module: nn.Module, name: str, param: torch.Tensor) -> None:
        line = self.recorder.frames.line()
        known = self._known.get(id(param))
        if known is None or known[0]() is not param:
            self._known[id(param)] = (weakref.ref(param), line, weakref.ref(module), name)
            return
        owner = known[2]()
        if owner is not None and owner is not module and owner._parameters.get(known[3]) is param:
            self._ties.append((weakref.ref(module), name, known[2], known[3], line))

    def _loaded(self, original: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        line = self.recorder.frames.line()
        if line is not None and not self.recorder.busy:
            self._loads.append(line)
        return original(module, *args, **kwargs)

    def finish(self) -> None:
        """Lines by name, ties that hold and ties that broke."""
        emit, naming = self.recorder.stream.emit, self.recorder.naming
        lines = {}
        for reference, line, _, _ in self._known.values():
            param = reference()
            name = naming.parameter(param) if param is not None else None
            if name is not None:
                lines[name] = line
        emit("registrations", lines=lines, loads=self._loads[:50])
        for second, second_name, first, first_name, line in self._ties[:50]:
            one, two = first(), second()
            if one is None or two is None:
                continue
            mine, other = two._parameters.get(second_name), one._parameters.get(first_name)
            emit(
                "tie",
                names=[_qualified(naming.place(one), first_name), _qualified(naming.place(two), second_name)],
                kinds=[type(one).__name__, type(two).__name__],
                line=line,
                holds=mine is other and mine is not None,
                both_live=mine is not None and other is not None,
                used=[naming.place(one)[0] >= 0, naming.place(two)[0] >= 0],
            )


def _qualified(place: tuple[int, str], name: str) -> str:
    return f"{place[1]}.{name}" if place[1] else name
