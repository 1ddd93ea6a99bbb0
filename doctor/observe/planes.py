"""Dense targets (masks, depth maps) against their images: whether some samples are mirrored and their targets are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_LEVELS = 12  # of grey, and of a target of real numbers
_MOST_SAMPLES = 400
_MOST_LABELS = 32
_LEAST_PIXELS = 256
_CLEAR = 0.03  # nats of information below which no position is said to fit
_TIMES = 2.0  # what another position tells more than the given one

_MOVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "left-right": lambda y: y.flip(-1),
    "up-down": lambda y: y.flip(-2),
    "both ways": lambda y: y.flip(-1, -2),
}


def examine(inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any] | None:
    """How many samples tell most of their target where it lies, and how many where it lies mirrored.

    `inputs` are (samples, channels, height, width), `targets` (samples, height, width) or with a channel of one; None
    for any others. What a sample tells is the information, in nats, between the grey level of a pixel (mean of the
    channels, in `_LEVELS` quantiles) and its label, over the sample's pixels.
    """
    if inputs.dim() != 4 or not inputs.is_floating_point() or inputs[0].numel() < _LEAST_PIXELS:
        return None
    planes = targets.squeeze(1) if targets.dim() == 4 and targets.shape[1] == 1 else targets
    if planes.shape != (len(inputs), *inputs.shape[2:]) or bool(torch.isnan(planes.float()).any()):
        return None
    grey, wanted = inputs[:_MOST_SAMPLES].float().mean(1), planes[:_MOST_SAMPLES]
    labels = [_labels(y) for y in wanted]
    kept, moved = 0, dict.fromkeys(_MOVES, 0)
    for image, label in zip(grey, labels, strict=True):
        if label is None or not bool(torch.isfinite(image).all()):
            continue
        levels = _levels(image)
        own = _information(levels, label)
        others = {name: _information(levels, move(label)) for name, move in _MOVES.items()}
        best = max(others, key=lambda name: others[name])
        if others[best] > _CLEAR and others[best] > _TIMES * own:
            moved[best] += 1
        elif own > _CLEAR and own > _TIMES * others[best]:
            kept += 1
    return {"samples": len(grey), "kept": kept, "moved": moved}


def _labels(y: torch.Tensor) -> torch.Tensor | None:
    """Small whole numbers; levels of a target of real numbers. None where all is one label."""
    if y.is_floating_point() and bool((y != y.round()).any()):
        return _levels(y.float())
    found, places = torch.unique(y, return_inverse=True)
    return places if 2 <= len(found) <= _MOST_LABELS else None


def _levels(image: torch.Tensor) -> torch.Tensor:
    cuts = torch.quantile(image.reshape(-1), torch.linspace(0, 1, _LEVELS + 1)[1:-1])
    return torch.bucketize(image, cuts)


def _information(levels: torch.Tensor, labels: torch.Tensor) -> float:
    """Mutual information in nats (plug-in estimate)."""
    classes = int(labels.max()) + 1
    counts = torch.bincount((levels * classes + labels).reshape(-1), minlength=_LEVELS * classes).double()
    joint = counts.reshape(-1, classes) / counts.sum()
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return float((joint * (joint / apart).log()).nan_to_num(0.0).sum())
