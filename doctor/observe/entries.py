"""Calls of models from outside every module: in which mode, on which samples, with what result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from doctor.observe.fingerprints import sample_tensors

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder


@dataclass(frozen=True)
class Entry:
    """`kind` is `train`, `eval`, or `open` (in evaluation mode, with gradients); `place` the root and the path below it,
    `named` the arguments that hold samples.
    """

    kind: str
    place: tuple[int, str]
    named: list[tuple[str, torch.Tensor]]
    output: torch.Tensor


def entry(recorder: Recorder, module: nn.Module, args: Any, kwargs: Any, result: Any) -> Entry | None:
    """What a call was; None for one without samples or without an output."""
    output = first_tensor(result)
    if output is None:
        return None
    place = recorder.naming.place(module)
    named = sample_tensors(args, kwargs) if place[0] >= 0 else []
    if not named:
        return None
    kind = "train" if output.requires_grad and module.training else "open" if output.requires_grad else "eval"
    return Entry(kind, place, named, output)


def first_tensor(result: Any) -> torch.Tensor | None:
    """The output that needs a gradient, or else the first of real numbers."""
    if isinstance(result, torch.Tensor):
        return result
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    floats = [v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point()]
    return next((v for v in floats if v.requires_grad), floats[0] if floats else None)
