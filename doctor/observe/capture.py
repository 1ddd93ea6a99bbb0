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
_MOST_CALLS = 8


@dataclass(frozen=True)
class Capture:
    """One training call of a root: the living module, and copies of what it was called with."""

    module: nn.Module
    root: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    line: Line | None
    step: int
    path: str = ""
    resting: frozenset[str] = frozenset()  # paths of the modules below it that were in evaluation mode
    mark: float = 0.0  # tells one batch from another


class Captures:
    """The latest captured call of every root, and of every module that is called directly, taken at the sampled steps."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.latest: dict[int, Capture] = {}
        self.calls: dict[tuple[int, str], Capture] = {}
        self.marks: dict[tuple[int, str], set[float]] = {}

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
        if root < 0 or (path and len(self.calls) >= _MOST_CALLS and (root, path) not in self.calls):
            return
        with torch.no_grad(), recorder.taping.quiet():
            copied = tree_map(_copied, (args, kwargs))
            mark = sum((_mark(tensor) for tensor in tensors), 0.0)
        resting = frozenset(name for name, part in module.named_modules() if not part.training)
        capture = Capture(
            module, root, copied[0], copied[1], recorder.frames.line(), recorder.step, path, resting, mark
        )
        self.calls[root, path] = capture
        self.marks.setdefault((root, path), set()).add(mark)
        if not path:
            self.latest[root] = capture


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _mark(tensor: torch.Tensor) -> float:
    if tensor.is_sparse or not tensor.numel() or tensor.is_complex():
        return 0.0
    flat = tensor.detach().reshape(-1)
    return float(flat[:: max(1, flat.numel() // 1024)].double().sum())
