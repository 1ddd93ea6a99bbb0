"""Collecting tensors sample by sample: digests, moments, features, labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from doctor.evidence.samples import TRAINING
from doctor.evidence.tensor_samples import SplitMoments, TensorSamples
from doctor.samples.columns import Columns
from doctor.samples.reading import digest

Array = npt.NDArray[Any]
_CHUNK = 256
_SIDE = 16
_MOST_NUMBERS = 512
_COLOURS = (1, 3, 4)
_MOST_CLASSES = 1000


class TensorScan:
    """The columns so far; samples of one shape are measured together, `count` says how many are to come."""

    def __init__(self, unit: str, count: int | None = None) -> None:
        self._columns = Columns("tensor", unit, count)
        self._waiting: list[tuple[str, int, str | None, Array, Any]] = []
        self._shapes: dict[str, int] = {}
        self._shape: list[int] = []
        self._nan: list[int] = []
        self._infinite: list[int] = []
        self._constant: list[bool] = []
        self._low: list[float] = []
        self._high: list[float] = []
        self._sums: dict[str, list[Any]] = defaultdict(list)
        self._labels: list[Any] = []
        self._types: Counter[str] = Counter()
        self._splits: list[str] = []
        self.failed: list[tuple[str, str, int, str]] = []
        self.image = self.ids = False

    def __len__(self) -> int:
        """Samples so far."""
        return len(self._shape) + len(self._waiting)

    def take(self, name: str, row: int, split: str | None, x: Array, y: Any) -> None:
        """One sample."""
        if self._waiting and (len(self._waiting) >= _CHUNK or not self._alike(split, x)):
            self._flush()
        self._waiting.append((name, row, split, x, y))

    def _alike(self, split: str | None, x: Array) -> bool:
        _, _, other, before, _ = self._waiting[0]
        return split == other and before.shape == x.shape and before.dtype == x.dtype

    def take_many(self, name: str, start: int, split: str | None, xs: Array, ys: Sequence[Any] | Array | None) -> None:
        """A block of samples of one shape, (samples, ...), from the row `start` of the array `name`."""
        self._flush()
        targets = list(ys) if ys is not None else [None] * len(xs)
        self._measure([name] * len(xs), list(range(start, start + len(xs))), split, xs, targets)

    def _flush(self) -> None:
        if self._waiting:
            names, rows, splits, xs, ys = zip(*self._waiting, strict=True)
            self._waiting = []
            self._measure(list(names), list(rows), splits[0], np.stack(xs), list(ys))

    def _measure(self, names: list[str], rows: list[int], split: str | None, xs: Array, ys: list[Any]) -> None:
        kind = f"{'x'.join(map(str, xs.shape[1:])) or 'scalar'} {xs.dtype}"
        number = self._shapes.setdefault(kind, len(self._shapes))
        by_channel = channels_first(xs)
        values = by_channel.astype(np.float64, copy=False)
        if number == 0:
            self.ids = xs.dtype.kind in "iu" and xs.dtype.itemsize >= 4 and xs.ndim == 2
            self.image = xs.ndim >= 3 and not self.ids and (xs.ndim == 4 or min(xs.shape[1:]) >= 8)
        nan = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        infinite = np.isinf(values)
        self._nan += nan.reshape(len(xs), -1).sum(1).tolist()
        self._infinite += infinite.reshape(len(xs), -1).sum(1).tolist()
        if nan.any() or infinite.any():
            values = np.where(nan | infinite, 0.0, values)
        flat = values.reshape(len(xs), values.shape[1], -1)
        low, high = (edge(values.reshape(len(xs), -1), axis=1) for edge in (np.min, np.max))
        self._low += low.tolist()
        self._high += high.tolist()
        self._constant += (low == high).tolist()
        if number == 0 and flat.shape[1] <= _MOST_NUMBERS:
            means = flat.mean(2)
            self._sums[split or ""].append(
                (len(xs), means.sum(0), (flat**2).mean(2).sum(0), (means**2).sum(0), values.min(), values.max())
            )
        features = (ids_features(xs) if self.ids else numbers_of(flat, xs)) if number == 0 else None
        content = np.ascontiguousarray(xs)
        head = kind.encode()
        few = xs.dtype.kind in "biu" and xs[0].size <= 8
        for index, (name, number_in, y) in enumerate(zip(names, rows, ys, strict=True)):
            label, answer = self._label(y)
            self._splits.append(split or TRAINING)
            self._shape.append(number)
            numbers = features[index] if features is not None else None
            mark = digest(head, content[index].tobytes())
            self._columns.add(name, split, label, mark, answer, numbers, repeatable=few, row=number_in)

    def _label(self, y: Any) -> tuple[Any, Any]:
        """The class, or the answer, that a target means; keeps its number."""
        if y is None:
            self._labels.append(None)
            return None, None
        if isinstance(y, str):
            self._labels.append(None)
            self._types["text"] += 1
            return y, None
        value = np.asarray(y)
        self._types[str(value.dtype)] += 1
        if value.size > 1:
            row = value.ravel()
            hot = row.dtype.kind in "biuf" and value.ndim == 1 and np.isin(row, (0, 1)).all() and row.sum() == 1
            self._labels.append(float("nan") if row.dtype.kind == "f" and np.isnan(row).any() else None)
            return (int(row.argmax()), None) if hot else (None, digest(row.tobytes()))
        if value.dtype.kind not in "biuf" or not value.size:
            self._labels.append(None)
            return None, None
        number = float(value.ravel()[0])
        self._labels.append(number)
        return number, number

    def result(
        self, x_name: str = "x", y_name: str = "y", workers: int = 0, notes: tuple[str, ...] = ()
    ) -> TensorSamples:
        """The record."""
        self._flush()
        numbers = [label for label in self._labels if isinstance(label, float) and np.isfinite(label)]
        distinct = set(numbers)
        whole = all(number.is_integer() for number in distinct)
        classes = bool(distinct) and whole and len(distinct) <= min(_MOST_CLASSES, max(2, 0.2 * len(numbers)))
        self._columns.relabel(lambda label: _class(label, classes))
        samples = self._columns.samples(notes)
        counted: dict[str, Counter[float]] = defaultdict(Counter)
        for split, label in zip(self._splits, self._labels, strict=True):
            if classes and isinstance(label, float) and np.isfinite(label):
                counted[split][label] += 1
        bad = [i for i, label in enumerate(self._labels) if isinstance(label, float) and not np.isfinite(label)]
        return TensorSamples(
            samples=samples,
            nan=np.array(self._nan, np.int64),
            infinite=np.array(self._infinite, np.int64),
            shapes=tuple(self._shapes),
            shape=np.array(self._shape, np.int64),
            moments=tuple(_moments(split or TRAINING, parts) for split, parts in self._sums.items()),
            image=self.image,
            ids=self.ids,
            failed=tuple(self.failed),
            label_type=self._types.most_common(1)[0][0] if self._types else "",
            label_values=tuple((split, tuple(sorted(found.items()))) for split, found in counted.items()),
            bad_labels=np.array(bad, np.int64),
            constant=np.flatnonzero(self._constant),
            low=np.array(self._low),
            high=np.array(self._high),
            x_name=x_name,
            y_name=y_name,
            repeats_by_workers=workers if workers > 1 and _each_repeated(samples.content, workers) else 0,
        )


def _class(label: Any, classes: bool) -> Any:
    """Numbers are labels only where they are class ids."""
    if isinstance(label, float):
        return int(label) if classes and np.isfinite(label) else None
    return label


def _each_repeated(content: Array, times: int) -> bool:
    _, counts = np.unique(content, return_counts=True)
    return len(counts) > 1 and bool((counts % times == 0).all())


def channels_first(xs: Array) -> Array:
    """A block as (samples, channels, ...): colour channels of pictures, features of vectors, else one channel."""
    if xs.ndim == 4 and xs.shape[1] not in _COLOURS and xs.shape[3] in _COLOURS:
        return np.moveaxis(xs, 3, 1)
    if xs.ndim == 4 or (xs.ndim == 2 and xs.shape[1] <= _MOST_NUMBERS):
        return xs
    return xs.reshape(len(xs), 1, -1) if xs.ndim != 3 else xs[:, None]


def numbers_of(flat: Array, xs: Array) -> npt.NDArray[np.float32]:
    """Up to 512 numbers a sample: pictures and long vectors are averaged over neighbouring values. (samples, numbers)."""
    shape = channels_first(xs).shape
    if len(shape) == 4 and min(shape[2:]) >= _SIDE and shape[1] <= 4:
        rows, columns = (np.linspace(0, size, _SIDE + 1).astype(int)[:-1] for size in shape[2:])
        picture = flat.reshape(shape).astype(np.float32)
        sums = np.add.reduceat(np.add.reduceat(picture, rows, 2), columns, 3)
        sizes = np.diff([*rows, shape[2]])[:, None] * np.diff([*columns, shape[3]])
        pooled: npt.NDArray[np.float32] = (sums / sizes).reshape(len(xs), -1).astype(np.float32)
        return pooled
    values = flat.reshape(len(xs), -1).astype(np.float32)
    if values.shape[1] <= _MOST_NUMBERS:
        return values
    edges = np.linspace(0, values.shape[1], _MOST_NUMBERS + 1).astype(int)
    means: npt.NDArray[np.float32] = (np.add.reduceat(values, edges[:-1], 1) / np.diff(edges)).astype(np.float32)
    return means


def ids_features(xs: Array) -> npt.NDArray[np.float32]:
    """How often each id occurs, by its remainder to 512, of unit length. (samples, 512)."""
    rows = np.zeros((len(xs), _MOST_NUMBERS), np.float32)
    np.add.at(rows, (np.arange(len(xs))[:, None], xs.reshape(len(xs), -1) % _MOST_NUMBERS), 1)
    unit: npt.NDArray[np.float32] = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
    return unit


def _moments(split: str, parts: list[Any]) -> SplitMoments:
    count = sum(part[0] for part in parts)
    mean = sum(part[1] for part in parts) / count
    square = sum(part[2] for part in parts) / count
    between = sum(part[3] for part in parts) / count
    return SplitMoments(
        split=split,
        samples=count,
        mean=tuple(map(float, mean)),
        std=tuple(map(float, np.sqrt(np.maximum(square - mean**2, 0)))),
        between=tuple(map(float, np.sqrt(np.maximum(between - mean**2, 0)))),
        low=float(min(part[4] for part in parts)),
        high=float(max(part[5] for part in parts)),
    )
