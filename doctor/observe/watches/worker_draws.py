"""What several workers draw for one and the same sample, tried after the program has ended."""

from __future__ import annotations

import contextlib
import inspect
import io
import time
from typing import Any

import torch
from torch.utils._pytree import tree_flatten
from torch.utils.data import DataLoader, IterableDataset

from doctor.observe.watch import Watch

_WORKERS = 2
_REPEATS = 4
_PLACES = 3


class WorkerDrawWatch(Watch):
    """Experiment: two workers, started as the training loader starts its own, each get the same samples twice."""

    def install(self) -> None:
        """Keep the loaders that have workers."""
        self._loaders: dict[int, dict[str, Any]] = {}
        self.recorder.patches.wrap(DataLoader, "__init__", self._made)

    def _made(self, original: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        original(loader, *args, **kwargs)
        index = getattr(loader, "_doctor_index", None)
        if index is None or loader.num_workers < 1 or isinstance(loader.dataset, IterableDataset):
            return
        self._loaders[index] = {
            "dataset": loader.dataset, "init": loader.worker_init_fn, "context": loader.multiprocessing_context,
            "workers": loader.num_workers, "persistent": loader.persistent_workers,
        }  # fmt: skip

    def finish(self) -> None:
        """Try it for the first training loader."""
        records = self.recorder.loaders.records
        chosen = [index for index in self._loaders if records[index]["used_in_training"]]
        if not chosen or self.recorder.elapsed() > 120:
            return
        known = self._loaders[chosen[0]]
        started = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            first = _draws(known)
            again = _draws(known) if time.monotonic() - started < 1.0 else None
        if first is None:
            return
        # Batches go to the workers in turn: 0 and 2 are those of the first, 1 and 3 of the second.
        random = not _same(first[0], first[2]) and not _same(first[1], first[3])
        self.recorder.stream.emit(
            "worker-draws",
            loader=chosen[0],
            workers=known["workers"],
            random=random,
            same_across_workers=random and _same(first[0], first[1]) and _same(first[2], first[3]),
            same_across_epochs=random and not known["persistent"] and again is not None and _same(first[0], again[0]),
            line=records[chosen[0]]["source"],
            init_line=_line_of(known["init"], self.recorder.frames),
            dataset_line=_line_of(_base(known["dataset"]), self.recorder.frames),
        )


def _draws(known: dict[str, Any]) -> list[Any] | None:
    batch = list(range(min(_PLACES, len(known["dataset"]))))
    loader = DataLoader(
        known["dataset"], num_workers=_WORKERS, batch_sampler=[batch] * _REPEATS, collate_fn=list,
        worker_init_fn=known["init"], multiprocessing_context=known["context"], timeout=10, prefetch_factor=2,
    )  # fmt: skip
    found = list(loader)
    return found if len(found) == _REPEATS else None


def _same(one: Any, other: Any) -> bool:
    left, right = tree_flatten(one)[0], tree_flatten(other)[0]
    return len(left) == len(right) and all(_equal(a, b) for a, b in zip(left, right, strict=True))


def _equal(one: Any, other: Any) -> bool:
    try:
        same = torch.as_tensor(one) == torch.as_tensor(other)
        return bool(same.all())
    except (TypeError, ValueError, RuntimeError):
        return bool(one == other)


def _base(dataset: Any) -> Any:
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return type(dataset)


def _line_of(thing: Any, frames: Any) -> list[Any] | None:
    try:
        file = inspect.getsourcefile(thing)
        name = frames.name(file) if file else None
        return [name, inspect.getsourcelines(thing)[1], getattr(thing, "__name__", "")] if name else None
    except (TypeError, OSError):
        return None
