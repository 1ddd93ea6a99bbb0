"""Images and their dense targets, as the loaders of the training give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import dataloader

from doctor.observe import planes
from doctor.observe.watch import Watch

_MOST_SAMPLES = 400
_MOST_ELEMENTS = 2_000_000


class PlaneWatch(Watch):
    """Keeps the first of such pairs of every loader until it is known which of them the program trains on."""

    def install(self) -> None:
        """Around the batches of loaders."""
        self._kept: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._elements: dict[int, int] = {}
        self.recorder.patches.wrap(dataloader._BaseDataLoaderIter, "__next__", self._next)

    def _next(self, original: Any, iterator: Any) -> Any:
        batch = original(iterator)
        index = getattr(iterator, "_doctor_index", None)
        if index is not None:
            self.guarded(self._note)(index, batch)
        return batch

    def _note(self, index: int, batch: Any) -> None:
        kept = self._kept.setdefault(index, [])
        if sum(len(x) for x, _ in kept) >= _MOST_SAMPLES:
            return
        pair = _pair(list(_tensors(batch)))
        if pair is None or (kept and pair[0].shape[1:] != kept[0][0].shape[1:]):
            return
        self._elements[index] = self._elements.get(index, 0) + pair[0].numel()
        if self._elements[index] <= _MOST_ELEMENTS:
            kept.append((pair[0].detach().clone(), pair[1].detach().clone()))

    def finish(self) -> None:
        """One event for each loader that the program trains on."""
        for index, kept in self._kept.items():
            if kept and self.recorder.loaders.records[index]["used_in_training"]:
                images, targets = (torch.cat(part).cpu() for part in zip(*kept, strict=True))
                found = planes.examine(images, targets)
                if found is not None:
                    self.recorder.stream.emit("plane-pairs", loader=index, **found)


def _pair(tensors: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The image, and what has its height and width."""
    images = [x for x in tensors if x.dim() == 4 and x.is_floating_point() and x.shape[1] in (1, 2, 3, 4)]
    for image in images[:1]:
        for other in tensors:
            size = other.shape if other.dim() == 3 else other[:, 0].shape if other.dim() == 4 else ()
            alike = len(size) == 3 and (size[0], *size[1:]) == (len(image), *image.shape[2:])
            if other is not image and alike and (other.dim() == 3 or other.shape[1] == 1):
                return image, other
    return None


def _tensors(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < 3 and isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part, depth + 1)
    elif depth < 3 and isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part, depth + 1)
