"""Where the reference decides by data: the values that steer its control flow, and inputs that turn them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from doctor.parity.reference import Reference
from doctor.parity.tensors import Tensors

_READS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal")
_LIBRARY = ("/torch/", "/doctor/parity/", "/transformers/utils/")


@dataclass(frozen=True)
class Decision:
    """A number that the reference read out of a tensor, and the line that did."""

    path: str
    line: int
    value: float


class _Decisions(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Decision] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._schema.name in _READS and len(self.found) < 256:
            for frame in reversed(traceback.extract_stack(limit=40)):
                if not any(part in frame.filename for part in _LIBRARY):
                    self.found.append(Decision(_shown(frame.filename), frame.lineno or 0, float(result)))
                    break
        return result


def _shown(path: str) -> str:
    """Relative to the working folder where the file lies below it."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


def decisions(reference: Reference, arguments: Tensors) -> tuple[Decision, ...]:
    """What the reference reads out of tensors on these inputs, in order; none when it cannot be watched."""
    mode = _Decisions()
    try:
        with mode:
            reference(arguments)
    except Exception:
        return ()
    return tuple(mode.found)


def variants(arguments: Tensors, axes: dict[str, int]) -> Iterator[tuple[str, Tensors]]:
    """Inputs of the same shapes with other values: one sample throughout, other signs and sizes, other order.

    Whole numbers only take values that the sample holds.
    """
    batch = next((arguments[name].shape[axis] for name, axis in axes.items()), 0)
    for row in range(min(batch, 8)):
        at = torch.full((batch,), row)
        yield (
            f"sample {row} repeated",
            {name: value.index_select(axes[name], at) if name in axes else value for name, value in arguments.items()},
        )
    floats = [name for name, value in arguments.items() if value.is_floating_point()]
    changes: tuple[tuple[str, float, float], ...] = (
        ("inputs negated", -1.0, 0.0),
        ("inputs at 0", 0.0, 0.0),
        ("inputs times 4", 4.0, 0.0),
    )
    changes = (*changes, ("inputs times 0.1", 0.1, 0.0), ("inputs plus 3", 1.0, 3.0), ("inputs minus 3", 1.0, -3.0))
    for label, factor, offset in changes if floats else ():
        yield (
            label,
            {name: value * factor + offset if name in floats else value for name, value in arguments.items()},
        )
    for name, value in arguments.items():
        if value.is_floating_point() or not value.numel():
            continue
        low, high = value.min(), value.max()
        if low != high:
            yield f"{name} at {low.item()}", {**arguments, name: torch.full_like(value, low.item())}
            yield f"{name} at {high.item()}", {**arguments, name: torch.full_like(value, high.item())}
            if value.dtype is not torch.bool:
                yield f"{name} mirrored", {**arguments, name: (low + high - value).to(value.dtype)}


def changed(value: torch.Tensor) -> torch.Tensor | None:
    """Another value of one input within what it may hold: floats reversed and negated, whole numbers mirrored between
    their ends; a mask of one value throughout gets zeros in its second half. None where nothing can be changed.
    """
    if not value.numel():
        return None
    if value.is_floating_point():
        return -value.flip(-1) if value.dim() else -value
    low, high = value.min(), value.max()
    if low != high:
        return ~value if value.dtype is torch.bool else (low + high - value).to(value.dtype)
    if value.dim() < 2 or value.shape[-1] < 2 or high not in (0, 1):
        return None
    half = value.clone()
    half[..., value.shape[-1] // 2 :] = 0 if high == 1 else 1
    return half
