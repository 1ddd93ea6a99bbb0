"""Which class the model names for which label: in training, and in the latest evaluation."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_CRITERIA = ("cross_entropy", "nll_loss")
_MOST_CLASSES = 200
_LATEST = 20  # training batches


class AgreementWatch(Watch):
    """Counts of (label, class named) at losses with gradients, and over the batches of evaluations."""

    def install(self) -> None:
        """Listen to losses."""
        self._training: dict[int, deque[torch.Tensor]] = {}
        self._evaluated: dict[tuple[int, int | None], tuple[int, torch.Tensor, Any]] = {}
        self._seen: Any = None
        for name in _CRITERIA:
            self.recorder.patches.wrap(nn.functional, name, self._around)

    def _around(self, original: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = isinstance(input, torch.Tensor) and isinstance(target, torch.Tensor)
        if tensors and input.requires_grad and not self.recorder.busy:
            self.guarded(self._note)(input, target)
        return original(input, target, *args, **kwargs)

    def _note(self, input: torch.Tensor, target: torch.Tensor) -> None:
        if target.is_floating_point() or input.dim() < 2 or target.shape != (*input.shape[:1], *input.shape[2:]):
            return
        if 2 <= input.shape[1] <= _MOST_CLASSES and target.numel():
            latest = self._training.setdefault(input.shape[1], deque(maxlen=_LATEST))
            latest.append(_counts(target, input.argmax(1), input.shape[1]))

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A model returned: in an evaluation, hold what it says against the labels of the loader's latest batch."""
        recent = self.recorder.loaders.recent
        if not recent or not self.recorder.step:
            return
        if module.training and any(output.requires_grad for output in _tensors(result)):
            return
        arguments = list(_tensors((args, kwargs)))
        batch = next((batch for batch in recent if _feeds(batch, arguments)), None)
        if batch is None and "accelerate.data_loader" not in sys.modules:
            batch = recent[0]  # changed between the loader and the model; accelerate's loaders are one batch ahead
        if batch is None or batch is self._seen:
            return
        self._seen = batch
        given = {id(value) for value in arguments}
        for output in _tensors(result):
            classes = output.shape[-1] if output.dim() > 1 else 0
            if not output.is_floating_point() or not 2 <= classes <= _MOST_CLASSES:
                continue
            named = kwargs.get("labels")  # a library's model takes them, too
            labels = [
                value
                for value in _tensors(batch)
                if (id(value) not in given or (value is named and value.dim() == 1))
                and not value.is_floating_point()
                and value.shape == output.shape[:-1]
            ]
            if len(labels) != 1 or not labels[0].numel() or int(labels[0].max()) >= classes:
                return
            self._add(classes, _counts(labels[0].to(output.device), output.argmax(-1), classes))
            return

    def _add(self, classes: int, counts: torch.Tensor) -> None:
        step, place = self.recorder.step, (classes, self.recorder.loaders._last)
        known = self._evaluated.get(place)
        if known is None or known[0] != step:
            self._evaluated[place] = (step, counts, self.recorder.frames.line())
        else:
            known[1].add_(counts)

    def finish(self) -> None:
        """One event for each loader that was evaluated."""
        for (classes, loader), (step, counts, line) in self._evaluated.items():
            if self._training.get(classes):
                trained = torch.stack(tuple(self._training[classes])).sum(0)
                self.recorder.stream.emit(
                    "agreement",
                    loader=loader,
                    step=step,
                    line=line,
                    training=trained.tolist(),
                    evaluation=counts.tolist(),
                )


def _feeds(batch: Any, arguments: list[torch.Tensor]) -> bool:
    """Whether a tensor of this batch is what a model was called with, as it stands, reshaped or copied."""
    for value in _tensors(batch):
        for argument in arguments:
            if value.numel() == argument.numel() and value.dtype == argument.dtype and value.numel():
                if value.data_ptr() == argument.data_ptr():
                    return True
                if torch.equal(value.reshape(-1), argument.detach().reshape(-1).to(value.device)):
                    return True
    return False


def _counts(labels: torch.Tensor, named: torch.Tensor, classes: int) -> torch.Tensor:
    """Table of labels by classes named; labels outside (padding) are left out."""
    labels, named = labels.reshape(-1).long(), named.reshape(-1)
    kept = (labels >= 0) & (labels < classes)
    flat = torch.bincount(labels[kept] * classes + named[kept], minlength=classes * classes)
    return flat.reshape(classes, classes).cpu()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    if hasattr(value, "data") and hasattr(value.data, "values") and not isinstance(value, dict):
        value = value.data  # a BatchEncoding
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
