"""In what precision an artifact's numbers are kept, and what error that precision alone makes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from doctor.parity.difference import Difference, compared, worst
from doctor.parity.reference import Reference
from doctor.parity.tensors import Tensors

_LEVELS = 256  # distinct values of an 8-bit tensor
_ENOUGH = 16  # elements from which few distinct values mean a grid
_SAMPLE = 65536


def of_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """The lowest precision that a good part of the numbers has: of their dtype, or of the grid on which they lie."""
    counts: dict[str, int] = {}
    for value in weights.values():
        if value.numel() < 16:
            continue
        kind = _kind(value)
        if kind:
            counts[kind] = counts.get(kind, 0) + value.numel()
    total = sum(counts.values())
    for kind in ("int4", "int8", "bfloat16", "float16"):
        if total and counts.get(kind, 0) >= 0.1 * total:
            return kind
    return "float32"


def _kind(value: torch.Tensor) -> str | None:
    if value.is_quantized or value.dtype in (torch.int8, torch.uint8, *_float8()):
        return "int8"
    if value.dtype is torch.float16:
        return "float16"
    if value.dtype is torch.bfloat16:
        return "bfloat16"
    if not value.dtype.is_floating_point:
        return None
    if value.dim() < 2 or value.numel() < 64:
        return "float32"
    part = value.detach().flatten()[:_SAMPLE].float()
    part = part[part.isfinite()]
    if not part.numel() or part.unique().numel() < 3:  # constant: says nothing
        return None
    if on_grid(value):
        return "int8"
    if torch.equal(part.bfloat16().float(), part):
        return "bfloat16"
    if torch.equal(part.half().float(), part):
        return "float16"
    return "float32"


def on_grid(value: torch.Tensor) -> bool:
    """Whether floats have as few distinct values as an 8-bit grid, over the tensor or in each of its channels."""
    if not value.dtype.is_floating_point or value.dim() < 2:
        return False
    flat = value.detach().float()
    flat = flat[:, 0] if flat.dim() > 2 and flat.shape[1] == 1 else flat
    if flat.numel() >= _ENOUGH and flat.flatten()[:_SAMPLE].unique().numel() <= min(_LEVELS, flat.numel() // 2):
        return True
    return _multiples(value)


def _multiples(value: torch.Tensor) -> bool:
    """Whether every channel holds whole multiples of one step, at most 127 of them from zero."""
    channels = value.detach().double().reshape(value.shape[0], -1)[:8]
    if channels.shape[1] < 16:
        return False
    for channel in channels:
        top = channel.abs().max()
        if top == 0:
            continue
        if not any(_on_steps(channel, top / levels) for levels in (127, 128, 7, 8)):
            return False
    return bool((channels.abs().amax(1) > 0).any())


def _on_steps(channel: torch.Tensor, step: torch.Tensor) -> bool:
    steps = channel / step
    return bool((steps - steps.round()).abs().max() < 1e-3)


def _float8() -> tuple[torch.dtype, ...]:
    return tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))


def floor(reference: Reference, arguments: Tensors, precision: str) -> Difference | None:
    """What the precision alone changes: the reference with its weights rounded to it, against itself.

    For float32, the reference in float32 against itself in float64.
    """
    try:
        wide = reference(arguments)
        model = reference.variant()
        if precision in ("float32", "float64"):
            doubled = {
                name: value.double() if value.is_floating_point() else value for name, value in arguments.items()
            }
            exact = reference(doubled, model.double())
            return worst(compared(exact, wide))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point() and parameter.dim() > 1:
                    parameter.copy_(rounded(parameter, precision))
        return worst(compared(wide, reference(arguments, model)))
    except Exception:  # a model that is not to be had in this precision has no floor, and the table alone holds
        return None


def rounded(value: torch.Tensor, precision: str) -> torch.Tensor:
    """A tensor rounded to a precision and back; integers symmetrically, with one scale for each first axis."""
    if precision in ("float16", "bfloat16"):
        return value.to(getattr(torch, precision)).to(value.dtype)
    top = 127 if precision == "int8" else 7
    flat = value.reshape(value.shape[0], -1)
    scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12) / top
    return ((flat / scale).round() * scale).reshape(value.shape)
