"""What inputs and targets say of each other without any model: contradictions, lonely labels, telling columns."""

from __future__ import annotations

from typing import Any

import torch

from doctor.observe.repeats import first_of, groups

_LEAST = 100
_LEAST_FOR_NEIGHBOURS = 300
_NEIGHBOURS = 8
_MAJORITY = 6  # of the neighbours
_RECOGNISED = 0.5  # of a class, by its neighbours' majority
_WIDE = 25  # neighbours by which the share of one of two classes is told
_CLEAR = 0.35  # of these may be of the rarer class where one class is clearly at home
_CLEAR_SHARE = 0.84  # of the samples lie there; classes that overlap (logistic, broad clusters): 0.3 to 0.8
_MOST_CLASSES = 50
_MOST_AHEAD = 64
_MOST_IN_WINDOW = 20_000
_MOST_VALUES = 3_000_000


def examine(inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any] | None:
    """Facts on `inputs` `(samples, ...)` and `targets`, class ids `(samples,)` or numbers `(samples,)`, `(samples, 1)`.

    None where there are too few samples, or targets of another form.
    """
    several = targets if targets.dim() == 2 and targets.shape[1] > 1 else None
    if targets.dim() == 2 and (several is None or _are_ahead(inputs, targets)):
        targets = targets[:, 0]
    if targets.dim() != 1 or len(inputs) != len(targets) or not torch.isfinite(inputs.float()).all():
        return None
    classes = not targets.is_floating_point()
    rows = inputs.reshape(len(inputs), -1).double()
    group = groups(rows)
    first = first_of(group)
    distinct = int(group.max()) + 1
    if distinct < _LEAST:
        return None
    x, y = rows[first], targets[first]
    found: dict[str, Any] = {"samples": distinct, "classes": int(y.unique().numel()) if classes else 0}
    found |= {
        "contradicted": _contradicted(group, targets, distinct) if classes else 0,
        "lonely": None,
        "flipped": None,
    }
    if classes and inputs.is_floating_point():
        found["lonely"] = _lonely(x, y)
        found["flipped"] = _flipped(x, y)
    plain = inputs.dim() == 2 and inputs.is_floating_point() and 2 <= rows.shape[1] <= 2000
    constant, telling, counting = _columns(x, y, classes) if plain else ([], [], [])
    shape = list(inputs.shape[1:])
    if inputs.dim() == 3 and inputs.is_floating_point() and not classes and rows.shape[1] <= _MOST_IN_WINDOW:
        telling = _copies(x, y if several is None else several[first])
    return {**found, "columns": rows.shape[1], "constant": constant, "telling": telling, "counting": counting,
            "shape": shape}  # fmt: skip


def _contradicted(group: torch.Tensor, labels: torch.Tensor, count: int) -> int:
    """Distinct inputs that stand with more than one label."""
    names = torch.unique(labels, return_inverse=True)[1]
    pairs = torch.unique(torch.stack([group, names], 1), dim=0)[:, 0]
    return int((torch.bincount(pairs, minlength=count) > 1).sum())


def _lonely(x: torch.Tensor, labels: torch.Tensor) -> float | None:
    """Share of the samples whose nearest neighbours agree on one label, while none of them has the sample's own.

    Where classes overlap, neighbours of both kinds are found; a label that was changed at random stands alone.
    """
    names = torch.unique(labels, return_inverse=True)[1]
    count = int(names.max()) + 1
    if not 3 <= count <= _MOST_CLASSES or len(x) < max(_LEAST_FOR_NEIGHBOURS, 20 * count) or x.numel() > _MOST_VALUES:
        return None
    x = ((x - x.mean(0)) / x.std(0).clamp_min(1e-9)).float()
    distances = torch.cdist(x, x).fill_diagonal_(float("inf"))
    around = names[distances.topk(_NEIGHBOURS, largest=False).indices]
    votes = torch.nn.functional.one_hot(around, count).sum(1)
    own = votes.gather(1, names[:, None])[:, 0]
    # A class that its neighbours do not even recognise is not noisy: distance says nothing of it, or it is rare.
    right = torch.nn.functional.one_hot(names[votes.argmax(1) == names], count).sum(0)
    recognised = right >= _RECOGNISED * torch.bincount(names, minlength=count)
    alone = (votes.amax(1) >= _MAJORITY) & (own == 0) & recognised[names] & recognised[votes.argmax(1)]
    return float(alone.float().mean())


def _flipped(x: torch.Tensor, labels: torch.Tensor) -> float | None:
    """Share of the labels of two classes that contradict a surrounding in which the other class is clearly at home.

    None where such surroundings do not hold nearly all samples: where classes overlap, labels disagree near the border
    and nowhere else, and few surroundings are clear; labels changed at random disagree everywhere alike.
    """
    names = torch.unique(labels, return_inverse=True)[1]
    if int(names.max()) != 1 or len(x) < _LEAST_FOR_NEIGHBOURS or x.numel() > _MOST_VALUES:
        return None
    x = ((x - x.mean(0)) / x.std(0).clamp_min(1e-9)).float()
    distances = torch.cdist(x, x).fill_diagonal_(float("inf"))
    share = names[distances.topk(_WIDE, largest=False).indices].float().mean(1)
    clear = torch.minimum(share, 1 - share) <= _CLEAR
    agree = (share > 0.5).long() == names
    recognised = all(float(agree[names == kind].float().mean()) > _RECOGNISED for kind in (0, 1))
    if float(clear.float().mean()) < _CLEAR_SHARE or not recognised:
        return None
    return float((~agree & clear).sum() / clear.sum())


def _columns(x: torch.Tensor, y: torch.Tensor, classes: bool) -> tuple[list[int], list[int], list[int]]:
    """Columns that are constant, that give the target away, and that count the samples."""
    spread = x.std(0, correction=0)
    constant = (spread == 0).nonzero()[:, 0].tolist()
    telling, counting = [], []
    names = torch.unique(y, return_inverse=True)[1]
    number = int(names.max()) + 1
    centred = (x - x.mean(0)) / spread.clamp_min(1e-12)
    target = y.double()
    target = (target - target.mean()) / target.std(correction=0).clamp_min(1e-12)
    alike = (centred * target[:, None]).mean(0).abs()
    for column in range(x.shape[1]):
        values = torch.unique(x[:, column], return_inverse=True)
        if column in constant:
            continue
        if classes:
            pairs = torch.unique(torch.stack([values[1], names], 1), dim=0)
            enough = int(torch.bincount(names).min()) >= 5
            if number >= 2 and enough and len(values[0]) == number == len(pairs):
                telling.append(column)
        elif float(alike[column]) >= 0.999 and x.shape[1] >= 3:
            telling.append(column)
        if len(values[0]) == len(x) and _counts(values[0]):
            counting.append(column)
    return constant, telling, counting


def _copies(x: torch.Tensor, y: torch.Tensor) -> list[int]:
    """Places of a window that hold the target itself, on whatever scale: what comes next is near the last value, not equal."""
    y = y.double().reshape(len(y), -1)
    z, target = x - x.mean(0), y - y.mean(0)
    z, target = z / z.norm(dim=0).clamp_min(1e-12), target / target.norm(dim=0).clamp_min(1e-12)
    alike = (z.T @ target).abs().amax(1)
    return [int(place) for place in (alike > 1 - 1e-9).nonzero()[:16, 0]]


def _are_ahead(inputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether there are several numbers for each window, and fewer than it has steps: what comes next, not itself."""
    return inputs.dim() == 3 and targets.is_floating_point() and targets.shape[1] < min(_MOST_AHEAD, inputs.shape[1])


def _counts(values: torch.Tensor) -> bool:
    """Whether sorted values are distinct whole multiples of one step, as numbers of rows are."""
    gaps = values.diff()
    step = float(gaps.min())
    if step <= 0 or float(values[-1] - values[0]) / step > 20 * len(values):
        return False
    multiples = gaps / step
    return bool(((multiples - multiples.round()).abs() < 0.02 * multiples.clamp_min(1)).all())
