"""Learning rates over time: which schedulers exist, when they are stepped, and what the rates become."""

from __future__ import annotations

import contextlib
import inspect
import io
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.utils.data import dataloader

from doctor.observe.watch import Watch

_MOST = 400  # positions and rates that are kept


class ScheduleWatch(Watch):
    """Every scheduler with its calls, the highest rate of every optimizer by step, and the epochs of every loader."""

    def install(self) -> None:
        """Around construction and step of all schedulers."""
        self._records: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
        self._all: list[dict[str, Any]] = []
        self._factors: list[tuple[dict[str, Any], Callable[[int], float]]] = []
        self._depth = 0
        self._rates: dict[int, list[float]] = {}
        self._epochs: dict[int, dict[str, int]] = {}
        wrap = self.recorder.patches.wrap
        for kind in vars(lr_scheduler).values():
            if not isinstance(kind, type) or not issubclass(kind, lr_scheduler.LRScheduler):
                continue
            if "__init__" in vars(kind):
                wrap(kind, "__init__", self._created)
            if "step" in vars(kind):
                wrap(kind, "step", self._stepped)
        wrap(dataloader._BaseDataLoaderIter, "__init__", self._iterating)

    def _created(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        self._depth += 1
        try:
            original(scheduler, *args, **kwargs)
        finally:
            self._depth -= 1
        if self._depth == 0:
            self.guarded(self._note)(scheduler, original, args, kwargs)

    def _note(self, scheduler: Any, original: Any, args: Any, kwargs: Any) -> None:
        if scheduler in self._records:
            return
        record: dict[str, Any] = {
            "kind": type(scheduler).__name__,
            "created": self.recorder.frames.line(),
            "settings": {
                **_given(original, scheduler, args, kwargs),
                **_plain(vars(scheduler)),
                **_of_function(scheduler),
            },
            "optimizer": None,
            "initial": None,
            "first": None,
            "steps": 0,
            "inner": 0,
            "before_first": False,
            "repeats": 0,
            "rising": 0,
            "lines": [],
            "positions": [],
            "rates": [],
        }
        optimizer = _optimizer(scheduler)
        if optimizer is not None:
            record["initial"] = max(float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups)
            record["first"] = _rate(optimizer)
        self._records[scheduler] = record
        self._all.append(record)
        self._factors += [(record, function) for function in (getattr(scheduler, "lr_lambdas", None) or ())[:1]]

    def _stepped(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        outer = self._depth == 0
        if not outer and scheduler in self._records:
            self._records[scheduler]["inner"] += 1
        self._depth += 1
        try:
            result = original(scheduler, *args, **kwargs)
        finally:
            self._depth -= 1
        if outer and scheduler in self._records:
            self.guarded(self._note_step)(scheduler)
        return result

    def _note_step(self, scheduler: Any) -> None:
        record, optimizer, line = self._records[scheduler], _optimizer(scheduler), self.recorder.frames.line()
        watched = self.recorder.stepping.of(optimizer) if optimizer is not None else None
        at = watched.steps if watched is not None else self.recorder.step
        record["optimizer"] = watched.index if watched is not None else None
        record["before_first"] |= record["steps"] == 0 and at == 0
        record["repeats"] += bool(record["positions"]) and record["positions"][-1] == at and at > 0
        record["steps"] += 1
        if line is not None and line not in record["lines"]:
            record["lines"].append(line)
        if len(record["positions"]) < _MOST:
            record["positions"].append(at)
            record["rates"].append(_rate(optimizer) if optimizer is not None else 0.0)

    def _iterating(self, original: Any, iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        original(iterator, loader, *args, **kwargs)
        index = getattr(loader, "_doctor_index", None)
        if index is not None:
            known = self._epochs.setdefault(index, {"begun": 0, "batches": 0})
            known["begun"] += 1
            with contextlib.suppress(TypeError, NotImplementedError):
                known["batches"] = len(loader)

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The rate at which this step is made."""
        watched = self.recorder.stepping.of(optimizer)
        if watched is not None:
            rates = self._rates.setdefault(watched.index, [])
            if len(rates) < _MOST:
                rates.append(_rate(optimizer))

    def finish(self) -> None:
        """One event a scheduler, an optimizer, a loader."""
        emit = self.recorder.stream.emit
        for scheduler, record in list(self._records.items()):
            optimizer = _optimizer(scheduler)
            watched = self.recorder.stepping.of(optimizer) if optimizer is not None else None
            record["optimizer"] = watched.index if watched is not None else record["optimizer"]
        for record, factor in self._factors:
            record["rising"] = _rising(factor)
        for record in self._all:
            emit("scheduler", **record)
        for index, rates in self._rates.items():
            emit("rates", optimizer=index, values=rates)
        for index, known in self._epochs.items():
            used = self.recorder.loaders.records[index]["used_in_training"]
            emit("epochs", loader=index, used_in_training=used, **known)


def _optimizer(scheduler: Any) -> torch.optim.Optimizer | None:
    optimizer = getattr(scheduler, "optimizer", None)
    for inner in getattr(scheduler, "_schedulers", ()) if optimizer is None else ():
        optimizer = getattr(inner, "optimizer", None)
    return optimizer if hasattr(optimizer, "param_groups") else None


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return max((float(group.get("lr", 0.0)) for group in optimizer.param_groups), default=0.0)


def _given(original: Any, scheduler: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        bound = inspect.signature(original).bind(scheduler, *args, **kwargs)
    except TypeError:
        return {}
    return _plain(dict(bound.arguments))


def _of_function(scheduler: Any) -> dict[str, Any]:
    """What the function of a LambdaLR was given beforehand: the warm-up and length of transformers' schedules."""
    functions = getattr(scheduler, "lr_lambdas", None) or [None]
    return _plain(getattr(functions[0], "keywords", None) or {})


def _rising(factor: Callable[[int], float]) -> int:
    """How many calls the factor of a LambdaLR rises. Asked after the program has ended: its function may count calls."""
    asked: list[int] = [*range(64), *range(64, 1024, 8), *range(1024, 16_384, 128)]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it may tell its user what it gives
            factors = [float(factor(number)) for number in asked]
    except Exception:  # a user's function may raise anything beyond the training that it was written for
        return 0
    return asked[factors.index(max(factors))]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, bool | int | float | str) and not name.startswith("_")
    }
