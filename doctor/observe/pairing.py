"""Whether inputs and targets, as they are paired, have anything to do with each other: two tests without training.

Ridge regression on the leading principal components and the agreement of nearest neighbours, both against targets that
are dealt out anew. `structure` tells how far the inputs are from independent noise, so that nothing found means more
than that there is nothing to find.
"""

from __future__ import annotations

import math
from typing import Any

import torch

_COMPONENTS = 32
_DEALS = 12
_MOST_SAMPLES = 800
_MOST_COLUMNS = 384
_SHIFTS = (-3, -2, -1, 1, 2, 3)


def examine(inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any] | None:
    """Both tests for `(samples, ...)` inputs and class ids `(samples,)` or numbers `(samples,)`, `(samples, outputs)`.

    None where they do not fit.
    """
    several = targets.dim() == 2 and targets.shape[1] != 1
    if len(inputs) < 100 or targets.dim() > 2 or (several and not targets.is_floating_point()):
        return None
    smooth = 0.0
    if several:
        smooth = float(torch.nan_to_num(torch.corrcoef(targets[:_MOST_SAMPLES, :2].double().T)[0, 1]))
        targets = targets[:, 0]  # the first number of several says enough
    inputs, y = inputs[:_MOST_SAMPLES], targets[:_MOST_SAMPLES].reshape(-1)
    x = _features(inputs)
    if x is None or len(y) != len(x) or not torch.isfinite(x).all() or not torch.isfinite(y.double()).all():
        return None
    structure = _structure(inputs, x)
    z, wanted = _components(x), _wanted(y)
    if wanted is None or z.shape[1] == 0:
        return None
    generator = torch.Generator().manual_seed(0)
    fit, null = _explained(z, wanted), []
    neighbours = _neighbours(z)
    near, near_null = _agreement(neighbours, wanted), []
    for _ in range(_DEALS):
        dealt = wanted[torch.randperm(len(wanted), generator=generator)]
        null.append(_explained(z, dealt))
        near_null.append(_agreement(neighbours, dealt))
    shifts = {str(k): _explained(z, wanted.roll(k, 0)) for k in _SHIFTS}
    best = max(shifts, key=lambda k: shifts[k])
    return {
        "samples": len(x), "classes": 0 if y.is_floating_point() else len(torch.unique(y)), "structure": structure,
        "explained": fit, "fit_errors": _deviations(fit, null), "near_errors": _deviations(near, near_null),
        "best_shift": int(best), "shifted": shifts[best], "smooth": smooth,
        "ragged": _is_ragged(inputs),
    }  # fmt: skip


def _features(inputs: torch.Tensor) -> torch.Tensor | None:
    if not inputs.is_floating_point():
        if inputs.dim() != 2 or int(inputs.min()) < 0:
            return None
        common = torch.bincount(inputs.reshape(-1)).topk(min(512, int(inputs.max()) + 1)).indices
        return torch.stack([(inputs == i).double().mean(1) for i in common.tolist()], 1)
    flat = inputs.reshape(len(inputs), -1)
    return flat[:, :: max(1, flat.shape[1] // _MOST_COLUMNS)].double()


def _is_ragged(ids: torch.Tensor) -> bool:
    """Whether rows of ids end in runs of one id, and of different lengths: texts, not the fields of a table."""
    if ids.is_floating_point() or ids.dim() != 2 or ids.shape[1] < 3:
        return False
    last, counts = ids[:, -1].unique(return_counts=True)
    empty = (ids == last[counts.argmax()]).flip(1).long()
    runs = empty.cumprod(1).sum(1)
    alone = float((empty.sum(1) == runs).float().mean()) > 0.95  # it stands nowhere else
    return alone and len(runs.unique()) >= 3 and float((runs > 1).float().mean()) > 0.2


def _standardised(x: torch.Tensor) -> torch.Tensor:
    deviation = x.std(0)
    z = (x - x.mean(0)) / deviation.clamp_min(1e-12)
    varying: torch.Tensor = z[:, deviation > 1e-9 * (1 + x.abs().amax(0))]
    return varying


def _structure(inputs: torch.Tensor, x: torch.Tensor) -> float:
    """Share of the variance in the leading eighth of the components, over that of independent columns; for token ids
    the information that their frequencies lack against uniform ones, in nats times ten.
    """
    if not inputs.is_floating_point():
        counts = (
            torch.bincount(inputs.reshape(-1)).double().sort(descending=True).values[1:]
        )  # the first may be padding
        shares = counts[counts > 0] / counts.sum().clamp_min(1)
        if len(shares) < 2:
            return 0.0
        return 1 + 10 * float(math.log(len(shares)) + (shares * shares.log()).sum())
    z = _standardised(x)
    if z.shape[1] < 3:
        return 0.0
    order = torch.stack([column[_order(len(z), i)] for i, column in enumerate(z.T)], 1)
    leading = max(1, min(z.shape) // 8)
    return _leading(z, leading) / max(_leading(order, leading), 1e-9)


def _order(count: int, seed: int) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + 1))


def _leading(z: torch.Tensor, count: int) -> float:
    values = torch.linalg.svdvals(z).square()
    return float(values[:count].sum() / values.sum())


def _components(x: torch.Tensor) -> torch.Tensor:
    z = _standardised(x)
    if z.shape[1] <= _COMPONENTS:
        return z
    left, values, _ = torch.linalg.svd(z, full_matrices=False)
    scores: torch.Tensor = left[:, :_COMPONENTS] * values[:_COMPONENTS] / values[0] * math.sqrt(len(z))
    return scores


def _wanted(y: torch.Tensor) -> torch.Tensor | None:
    if y.is_floating_point():
        y = y.double()
        return ((y - y.mean()) / y.std())[:, None] if float(y.std()) > 0 else None
    _, ids = torch.unique(y, return_inverse=True)
    count = int(ids.max()) + 1
    if not 2 <= count <= len(y) // 20:
        return None
    one_hot = torch.eye(count, dtype=torch.float64)[ids]
    return one_hot - one_hot.mean(0)


def _explained(z: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of the variance of held-out targets that ridge regression on features and their squares explains."""
    x = torch.cat([z, z.square() - 1, torch.ones(len(z), 1, dtype=z.dtype)], 1)
    cut = torch.arange(len(z)) % 3
    error = 0.0
    for part in range(3):
        fit, held = cut != part, cut == part
        gram = x[fit].T @ x[fit] + 3.0 * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(gram, x[fit].T @ wanted[fit])
        error += float((x[held] @ weights - wanted[held]).square().sum())
    return 1 - error / float(wanted.square().sum())


def _neighbours(z: torch.Tensor) -> torch.Tensor:
    return torch.cdist(z, z).fill_diagonal_(math.inf).topk(8, largest=False).indices


def _agreement(neighbours: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean product of the centred targets of a sample and of its nearest neighbours."""
    return float((wanted[neighbours].mean(1) * wanted).sum(1).mean())


def _deviations(value: float, null: list[float]) -> float:
    centre = sum(null) / len(null)
    spread = math.sqrt(sum((v - centre) ** 2 for v in null) / (len(null) - 1))
    return (value - centre) / max(spread, 1e-9)
