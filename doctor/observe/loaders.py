"""DataLoaders: which exist, in what order they draw, and how an epoch is cut short once enough was seen."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, dataloader

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder

_BATCHES_AFTER_BUDGET = 4  # batches that each loader may still give once the step budget is spent


class LoaderWatch:
    """Notes every DataLoader of the program."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.records: list[dict[str, Any]] = []
        self._index: dict[int, int] = {}
        self._last: int | None = None
        self.recent: deque[Any] = deque(maxlen=2)  # the batches that were given last, newest first
        self._epochs_after_budget = 0
        self.on_created: Any = None
        self.on_batch: Any = None

    def install(self) -> None:
        """Put the hooks in place."""
        self._recorder.patches.wrap(DataLoader, "__init__", self._created)
        self._recorder.patches.wrap(dataloader._BaseDataLoaderIter, "__init__", self._iterating)
        self._recorder.patches.wrap(dataloader._BaseDataLoaderIter, "__next__", self._next)

    def _created(self, original: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        line = self._recorder.frames.line()
        if self.on_created is not None:
            args, kwargs = self.on_created(len(self.records), args, kwargs)
        original(loader, *args, **kwargs)
        object.__setattr__(loader, "_doctor_index", len(self.records))
        self.records.append(
            {
                "index": len(self.records),
                "dataset": type(loader.dataset).__name__,
                "length": _length(loader.dataset),
                "batch_size": loader.batch_size,
                "shuffled": _shuffled(loader),
                "workers": loader.num_workers,
                "source": line,
                "used_in_training": False,
                "batches": 0,
            }
        )

    def _iterating(self, original: Any, iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        original(iterator, loader, *args, **kwargs)
        iterator._doctor_index = getattr(loader, "_doctor_index", None)
        iterator._doctor_late = iterator._doctor_batches = 0

    def _next(self, original: Any, iterator: Any) -> Any:
        index = getattr(iterator, "_doctor_index", None)
        if self._recorder.budget_reached:
            trained = index is not None and self.records[index]["used_in_training"]
            begins = trained and not iterator._doctor_batches
            if begins and (self._recorder.plan.light or self._epochs_after_budget):
                self._recorder.stop()
            # The next epoch begins. Its first batch shows in which mode it trains; its step ends the run.
            self._epochs_after_budget += begins
            if (trained and not begins) or iterator._doctor_late >= _BATCHES_AFTER_BUDGET:
                raise StopIteration
            iterator._doctor_late += 1
        batch = original(iterator)
        if self.on_batch is not None:
            batch = self.on_batch(index, batch)
        iterator._doctor_batches += 1
        self.recent.appendleft(batch)
        if index is not None:
            self.records[index]["batches"] += 1
            self._last = index
        return batch

    def note_backward(self) -> None:
        """The loader that gave the latest batch feeds the training."""
        if self._last is not None:
            self.records[self._last]["used_in_training"] = True

    def can_end_epoch(self) -> bool:
        """Whether the training loop draws from a DataLoader, so that its epoch can be ended."""
        return any(record["used_in_training"] for record in self.records)

    def report(self) -> None:
        """One event a loader."""
        for record in self.records:
            self._recorder.stream.emit("loader", **record)


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _shuffled(loader: Any) -> bool | None:
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler):
        return True
    if isinstance(sampler, SequentialSampler):
        plain = loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler
        return False if plain else None
    return None
