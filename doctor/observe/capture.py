"""Captured calls: a model and one of its training batches, for experiments after the program has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from doctor.observe.frames import Line

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder

_MOST_ELEMENTS = 50_000_000


@dataclass(frozen=True)
class Capture:
    """One training call of a root: the living module, and copies of what it was called with."""

    module: nn.Module
    root: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    line: Line | None
    step: int


class Captures:
    """The latest captured call of every root, taken at the sampled steps."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.latest: dict[int, Capture] = {}

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Copy the batch of a training call at a sampled step."""
        recorder = self._recorder
        sampled = not recorder.plan.light and recorder.step in recorder.plan.activation_steps
        if not sampled or not torch.is_grad_enabled() or not module.training:
            return
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        if sum(tensor.numel() for tensor in tensors) > _MOST_ELEMENTS:
            return
        root, path = recorder.naming.place(module)
        if path:
            return
        with torch.no_grad(), recorder.taping.quiet():
            copied = tree_map(_copied, (args, kwargs))
        self.latest[root] = Capture(module, root, copied[0], copied[1], recorder.frames.line(), recorder.step)


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
