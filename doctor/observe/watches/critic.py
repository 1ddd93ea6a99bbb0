"""A model that judges what another one has made: which way each of the two pushes the judgement."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from doctor.observe import entries
from doctor.observe.watch import Watch

_MOST_CALLS = 60
_MOST_HELD = 4  # outputs of one model that may be judged yet

Place = tuple[int, str]


@dataclass
class _Critic:
    line: Any = None
    cuts: list[Any] = field(default_factory=list)  # the lines of calls with what was cut off
    generator: Place | None = None
    real: tuple[float, float] | None = None
    made: tuple[float, float] | None = None
    pushes: dict[str, list[float]] = field(default_factory=lambda: {"cut": [], "through": []})


class CriticWatch(Watch):
    """Calls of one root with another root's output: with its graph (the generator's step) or cut off (the critic's).

    At each, the mean gradient of the judgement; and the ranges of what was made and of what comes from the data.
    """

    def install(self) -> None:
        """Nothing to patch."""
        self._made: dict[Place, deque[weakref.ref[torch.Tensor]]] = {}
        self._critics: dict[Place, _Critic] = {}

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A model returned: tell whose output it was called with."""
        entry = entries.entry(self.recorder, module, args, kwargs, result)
        if entry is None or not entry.output.is_floating_point() or not entry.output.dim() or not len(entry.output):
            return  # a loss that a model computes itself is no judgement of samples
        judged = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)), None)
        if judged is None or not judged.is_floating_point() or not judged.numel():
            judged = None
        maker = self._maker(judged, entry.place) if judged is not None else None
        if entry.output.dim() >= 2 and entry.output[0].numel() > 1:
            made = self._made.setdefault(entry.place, deque(maxlen=_MOST_HELD))
            made.append(weakref.ref(entry.output))  # as long as the program holds it, its memory is its own
        if judged is None or not entry.output.requires_grad or entry.output[0].numel() != 1:
            return
        known = self._critics.setdefault(entry.place, _Critic())
        if maker is None:
            if not judged.requires_grad:
                known.real = _wider(known.real, judged)
            return
        known.generator = maker
        known.made = _wider(known.made, judged)
        way = "through" if judged.requires_grad else "cut"
        pushes = known.pushes[way]
        if len(pushes) < _MOST_CALLS:
            line = self.recorder.frames.line()
            if way == "through":
                known.line = line
            elif line not in known.cuts:
                known.cuts.append(line)
            entry.output.register_hook(lambda gradient: pushes.append(float(gradient.detach().double().mean())))

    def _maker(self, value: torch.Tensor, place: Place) -> Place | None:
        """The other model whose output this is, or shares its memory."""
        for other, references in self._made.items():
            outputs = [output for reference in references if (output := reference()) is not None]
            if other != place and any(o.data_ptr() == value.data_ptr() and o.numel() == value.numel() for o in outputs):
                return other
        return None

    def finish(self) -> None:
        """One event a critic."""
        for place, known in self._critics.items():
            if known.generator is not None:
                self.recorder.stream.emit(
                    "critic",
                    place=place,
                    generator=known.generator,
                    line=known.line,
                    cuts=known.cuts,
                    real=known.real,
                    made=known.made,
                    **known.pushes,
                )
        self._made.clear()


def _wider(known: tuple[float, float] | None, value: torch.Tensor) -> tuple[float, float]:
    low, high = (float(bound) for bound in torch.aminmax(value.detach()))
    return (low, high) if known is None else (min(low, known[0]), max(high, known[1]))
