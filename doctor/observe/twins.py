"""Two data sets over the same samples: one with the transforms of training, one without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_SAMPLES = 12
_ALIKE = 0.8  # correlation of a sample with its augmented self; of two samples of one kind it is less for most


def alike(one: Any, other: Any, places: Sequence[int]) -> bool:
    """Whether samples at the same places have equal targets and hardly changed inputs, and those at other places do not."""
    chosen = [places[i * len(places) // _SAMPLES] for i in range(_SAMPLES)] if len(places) >= _SAMPLES else []
    try:
        pairs = [(_parts(one[i]), _parts(other[i])) for i in chosen]
    except Exception:  # a user's data set may want workers, files, an order of calls
        return False
    if not pairs or any(a is None or b is None for a, b in pairs):
        return False
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if any(not torch.equal(a[1], b[1]) for a, b in known):
        return False
    own = [_correlation(a[0], b[0]) for a, b in known]
    crossed = [_correlation(known[i][0][0], known[i - 1][1][0]) for i in range(len(known))]
    median = len(own) // 2
    return sorted(own)[median] > _ALIKE and sorted(own)[median] > sorted(crossed)[median] + 0.05


def _parts(sample: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Input and target of a sample that is a pair."""
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        return None
    value, target = sample
    if (
        not isinstance(value, torch.Tensor)
        or not value.is_floating_point()
        or not isinstance(target, int | torch.Tensor)
    ):
        return None
    return value.detach().double().reshape(-1).cpu(), torch.as_tensor(target).cpu()


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.shape != other.shape or one.numel() < 2:
        return 0.0
    return float(torch.nan_to_num(torch.corrcoef(torch.stack([one, other]))[0, 1]))
