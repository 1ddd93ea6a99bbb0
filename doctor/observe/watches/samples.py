"""Samples that the program trains on, kept to train a reference model on them after the program has ended."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from doctor.observe import pair_facts, pairing, reference
from doctor.observe.repeats import distinct
from doctor.observe.watch import Watch

_MOST_SAMPLES = 1200
_MOST_SECONDS = 1.5
_MOST_ELEMENTS = 4_000_000
_MOST_CATEGORIES = 40  # columns of codes beside a table's numbers; longer are sequences of tokens
_LOSSES = ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
           "binary_cross_entropy_with_logits")  # fmt: skip


class SampleWatch(Watch):
    """Pairs of the first input of a training call and the target of the loss that follows it."""

    def install(self) -> None:
        """Listen to losses."""
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._inputs: list[torch.Tensor] = []
        self._scored: Callable[[], torch.Tensor | None] = lambda: None
        self._mixed = False
        self._samples = self._elements = 0
        for name in _LOSSES:
            self.recorder.patches.wrap(nn.functional, name, self._loss)

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember what the model is called with."""
        found = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        # Of two inputs alike (pairs to be compared) the first does not tell the target.
        alone = not any(v.is_floating_point() and v.shape == found[0].shape for v in found[1:])
        self._inputs = found if found and module.training and alone else []

    def _loss(self, original: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(target, torch.Tensor) and getattr(input, "requires_grad", False):
            if self._inputs:
                self._scored = weakref.ref(input)
                self.guarded(self._keep)(target)
            elif self._scored() is input and self._pairs and self._pairs[-1][1].shape == target.shape:
                self._mixed = True  # a second target for the same outputs: inputs that are mixed from two samples
        return original(input, target, *args, **kwargs)

    def _keep(self, target: torch.Tensor) -> None:
        inputs, self._inputs = self._inputs, []
        if not inputs or self._samples >= _MOST_SAMPLES:
            return
        x = _joined(inputs)
        if x.dim() < 2 or not target.dim() or len(x) != len(target) or x.requires_grad:
            return
        if self._elements + x.numel() > _MOST_ELEMENTS or x.is_complex():
            return
        if self._pairs and (x.shape[1:] != self._pairs[0][0].shape[1:] or target.dim() != self._pairs[0][1].dim()):
            return  # sequences of other lengths: the reference model wants one shape
        self._samples += len(x)
        self._elements += x.numel()
        self._pairs.append((x.detach().clone(), target.detach().clone()))

    def finish(self) -> None:
        """Train the reference model."""
        if not self._pairs or self.recorder.step < 8 or self._mixed:
            return
        inputs = torch.cat([x for x, _ in self._pairs]).cpu()
        targets = torch.cat([y for _, y in self._pairs]).cpu()
        if not _in_order(targets):
            first = distinct(inputs)  # a sample of several epochs would be its own neighbour
            paired = pairing.examine(inputs[first], targets[first])
            if paired is not None:
                self.recorder.stream.emit("pairing", **paired)
            facts = pair_facts.examine(inputs, targets)
            if facts is not None:
                self.recorder.stream.emit("pair-facts", **facts)
        # A share of what the program itself took, most of all of its steps: observation stays cheap.
        seconds = 0.2 + 0.05 * self.recorder.elapsed() + 0.08 * self.recorder.stepping_for()
        found = reference.assess(inputs, targets, min(_MOST_SECONDS, seconds))
        if found is not None:
            self.recorder.stream.emit("reference", **found)


def _joined(inputs: list[torch.Tensor]) -> torch.Tensor:
    """The first input; of a table that comes as categories and numbers, the numbers with the categories behind them."""
    first = inputs[0]
    if len(inputs) != 2 or any(value.dim() != 2 or len(value) != len(first) for value in inputs):
        return first
    codes, numbers = sorted(inputs, key=torch.is_floating_point)
    if codes.is_floating_point() or not numbers.is_floating_point() or codes.shape[1] > _MOST_CATEGORIES:
        return first
    return torch.cat([numbers.detach(), codes.detach().to(numbers)], 1)


def _in_order(targets: torch.Tensor) -> bool:
    """Targets that only count the samples of a batch: the pairs of a contrastive loss."""
    return not targets.is_floating_point() and bool(
        (targets.reshape(-1)[1:] - targets.reshape(-1)[:-1] == 1).float().mean() > 0.8
    )
