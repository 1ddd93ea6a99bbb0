"""64-bit fingerprints of the samples of a batch, and which tensors of a call are its samples."""

from __future__ import annotations

import functools
from typing import Any

import torch

_MOST_POSITIONS = 2048  # of a sample; wider ones are read at evenly spread positions
_TARGETS = ("label", "target")
_FIRST, _SECOND, _THIRD = -7046029254386353131, -4658895280553007687, -7723592293110705685


def sample_tensors(args: Any, kwargs: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a call that hold one entry a sample, by name; labels and attention masks are left out."""
    named: list[tuple[str, Any]] = [("", value) for value in args] + list(kwargs.items())
    found: list[tuple[str, torch.Tensor]] = []
    for name, value in named:
        inner = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        for key, part in [(name, value), *((str(key), part) for key, part in inner)]:
            if not isinstance(part, torch.Tensor) or part.layout is not torch.strided or not part.dim():
                continue
            if any(word in key for word in _TARGETS) or "mask" in key or part.is_complex() or not part.numel():
                continue
            found.append((key, part.detach()))
    return [(name, part) for name, part in found if len(part) == len(found[0][1])]


def fingerprints(tensors: list[torch.Tensor], mask: torch.Tensor | None = None) -> torch.Tensor:
    """One number a sample, equal for equal contents; the id 0 at the end of a sequence counts for nothing.

    `mask` is an attention mask of the first tensor's shape: what it leaves out counts for nothing either.
    """
    total = torch.zeros(len(tensors[0]), dtype=torch.int64)
    for place, tensor in enumerate(tensors):
        if mask is not None and mask.shape == tensor.shape and not tensor.is_floating_point():
            tensor = tensor * mask.to(tensor.dtype)
        flat = tensor.reshape(len(tensor), -1)
        step = max(1, flat.shape[1] // _MOST_POSITIONS)
        flat = flat[:, ::step].cpu()
        # Sums of whole numbers: the same for a sample whatever batch it comes in, and exact.
        total = (total * _THIRD) ^ _mixed((_bits(flat) * _weights(flat.shape[1], place)).sum(1))
    return total


def _bits(values: torch.Tensor) -> torch.Tensor:
    if not values.is_floating_point():
        return values.to(torch.int64)
    return values.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)


@functools.lru_cache(maxsize=16)
def _weights(width: int, place: int) -> torch.Tensor:
    """Odd multipliers, one a position (a multiplicative hash, Dietzfelbinger et al., 1997)."""
    position = torch.arange(1, width + 1, dtype=torch.int64) + 7919 * place
    return _mixed(_mixed(position * _FIRST) * _SECOND) | 1


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ (bits >> 29)) * _SECOND
    return bits ^ (bits >> 32)
