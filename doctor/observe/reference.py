"""A small reference model for samples of the user's, which shows whether anything can be learnt from them.

Which model follows from the input: a perceptron for feature vectors, a small convolutional network for images, pooled
embeddings for token ids, pooled features for sequences. It is trained twice on two thirds of the samples, with the
targets as they are and with targets dealt out anew, and judged on the last third.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import nn

from doctor.observe.repeats import distinct

_SECONDS = 2.5
_PASSES = 30
_LEAST_SAMPLES = 48
_WIDTH = 64
_PIXELS = 16


def assess(inputs: torch.Tensor, targets: torch.Tensor, seconds: float = _SECONDS) -> dict[str, Any] | None:
    """Held-out loss of the reference model (`loss`), with shuffled targets (`shuffled`), of the best constant
    prediction (`baseline`), and the standard error of `shuffled - loss` (`error`). None where no reference model fits.

    `inputs` are `(samples, ...)`, `targets` class ids `(samples,)` or numbers `(samples,)` or `(samples, outputs)`.
    """
    if len(targets) != len(inputs):
        return None
    keep = distinct(inputs)  # a sample seen in two epochs must not stand on both sides of the cut
    inputs, targets = inputs[keep], targets[keep]
    count = len(inputs)
    if count < _LEAST_SAMPLES or inputs.dim() < 2 or not torch.isfinite(inputs.float()).all():
        return None
    classes = not targets.is_floating_point()
    if (classes and targets.dim() != 1) or targets.dim() > 2 or not torch.isfinite(targets.float()).all():
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        order = torch.randperm(count)
        x, y = _prepared(inputs[order]), targets[order]
        y = y - y.min() if classes else _standardised(y.float().reshape(count, -1))
        outputs = int(y.max()) + 1 if classes else y.shape[1]
        if classes and (outputs < 2 or outputs > count // 2):
            return None
        cut = 2 * count // 3
        dealt = torch.cat([y[:cut][torch.randperm(cut)], y[cut:]])
        deadline = time.monotonic() + seconds
        losses = [
            _held_out(_model(x, outputs).float(), x, labels, cut, started + 0.5 * (deadline - started))
            for labels, started in ((y, time.monotonic()), (dealt, 0.5 * (time.monotonic() + deadline)))
        ]
    true, shuffled = losses
    difference = shuffled - true
    return {
        "kind": _kind(x),
        "samples": count,
        "loss": float(true.mean()),
        "shuffled": float(shuffled.mean()),
        "baseline": _baseline(y, cut, outputs, classes),
        "error": float(difference.std() / math.sqrt(len(difference))),
    }


def _kind(x: torch.Tensor) -> str:
    if not x.is_floating_point():
        return "pooled embeddings"
    return {2: "perceptron", 3: "pooled sequence", 4: "convolutional network"}.get(x.dim(), "perceptron")


def _prepared(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        return x.long().clamp_min(0)
    x = x.float()
    if x.dim() == 4 and min(x.shape[2:]) >= 2 * _PIXELS:  # more passes over coarser images tell more in the same time
        x = nn.functional.avg_pool2d(x, min(x.shape[2:]) // _PIXELS)
    return _standardised(x)


def _standardised(x: torch.Tensor) -> torch.Tensor:
    """Per feature: the last axis, but the channel axis of images."""
    axes = (0, 2, 3) if x.dim() == 4 else tuple(range(x.dim() - 1))
    return (x - x.mean(axes, keepdim=True)) / x.std(axes, keepdim=True).clamp_min(1e-6)


class _Pool(nn.Module):
    """Mean and maximum over time of `(batch, time, features)`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean(1), x.amax(1)], 1)


def _model(x: torch.Tensor, outputs: int) -> nn.Module:
    if not x.is_floating_point():
        flat = [nn.Flatten(1)] if x.dim() > 2 else []
        rows = int(x.max()) + 1
        return nn.Sequential(*flat, nn.Embedding(rows, _WIDTH), _Pool(), nn.Linear(2 * _WIDTH, outputs))
    if x.dim() == 4 and min(x.shape[2:]) >= 6:
        return nn.Sequential(
            nn.Conv2d(x.shape[1], 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(288, outputs),
        )  # fmt: skip
    if x.dim() == 3:
        width = x.shape[2]
        return nn.Sequential(nn.Linear(width, _WIDTH), nn.ReLU(), _Pool(), nn.Linear(2 * _WIDTH, outputs))
    width = math.prod(x.shape[1:])
    return nn.Sequential(nn.Flatten(), nn.Linear(width, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, outputs))


def _held_out(model: nn.Module, x: torch.Tensor, y: torch.Tensor, cut: int, deadline: float) -> torch.Tensor:
    """Loss of every held-out sample at the pass that did best on average."""
    optimizer = _Adam(list(model.parameters()))
    best: torch.Tensor | None = None
    for _ in range(_PASSES):
        for rows in torch.randperm(cut).split(32):
            with torch.enable_grad():
                loss = _losses(model(x[rows]), y[rows]).mean()
            optimizer.step(loss)
        with torch.no_grad():
            held = _losses(model(x[cut:]), y[cut:])
        if best is None or held.mean() < best.mean():
            best = held
        if time.monotonic() > deadline:
            break
    assert best is not None
    return best


def _losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if targets.is_floating_point():
        return (outputs - targets).square().mean(1)
    return -outputs.log_softmax(1).gather(1, targets[:, None])[:, 0]


def _baseline(y: torch.Tensor, cut: int, outputs: int, classes: bool) -> float:
    if not classes:
        return float((y[cut:] - y[:cut].mean(0)).square().mean())
    shares = (torch.bincount(y[:cut], minlength=outputs).float() + 1) / (cut + outputs)
    return float(-shares[y[cut:]].log().mean())


class _Adam:
    """Adam at 3e-3 (Kingma and Ba, 2015). Not torch's: what optimizers do is watched here."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._first = [torch.zeros_like(p) for p in parameters]
        self._second = [torch.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, loss: torch.Tensor) -> None:
        self._steps += 1
        gradients = torch.autograd.grad(loss, self._parameters)
        with torch.no_grad():
            torch._foreach_lerp_(self._first, list(gradients), 0.1)
            torch._foreach_mul_(self._second, 0.999)
            torch._foreach_addcmul_(self._second, list(gradients), list(gradients), 0.001)
            rate = 3e-3 * math.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
            for parameter, first, second in zip(self._parameters, self._first, self._second, strict=True):
                parameter.sub_(rate * first / (second.sqrt() + 1e-8))
