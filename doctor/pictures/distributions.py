"""Histograms and bars of values by split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doctor.pictures.records import Bars, Histogram, Series

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
else:
    from doctor.lazy import numpy as np

    Array = Any

MOST_BARS = 12
_BINS = 32
_APART, _HEAP = 0.5, 0.4  # of the range that lies empty before a heap, and of the values that it holds at most
_COUNTABLE = 1e9  # range of whole numbers whose bins begin and end between two of them
_VALUES = 8  # different ones, from which a heap has a shape
_FAR = 1.0  # spans of the middle 99 % beyond which a value is drawn in the outermost bin


def histogram(title: str, values: Mapping[str, Array], unit: str = "", note: str = "") -> Histogram | None:
    """The finite values of each split, in common bins; None where there are none, or only one value."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _histogram(title, values, unit, note)


def _histogram(title: str, values: Mapping[str, Array], unit: str, note: str) -> Histogram | None:
    finite = {name: one[np.isfinite(one)] for name, one in values.items()}
    finite = {name: one for name, one in finite.items() if len(one)}
    if not finite:
        return None
    together = np.concatenate(list(finite.values()))
    low, high = float(together.min()), float(together.max())
    if not high > low or not math.isfinite(high - low):
        return None
    start, end = _bulk(together)
    open_low, open_high = low < start, high > end
    edges = _edges(together, start, end)
    series = tuple(
        Series(name, tuple((np.histogram(np.clip(one, edges[0], edges[-1]), edges)[0] / len(one)).tolist()), len(one))
        for name, one in finite.items()
    )
    return Histogram(title, tuple(edges.tolist()), series, unit, note, open_low, open_high)


def _bulk(values: Array) -> tuple[float, float]:
    """Where most values lie: without the few that are far from the middle 99 %, and without a heap far from all others.

    A code such as -999 is such a heap; it is to stand apart, but not to flatten the rest.
    """
    ordered = np.sort(values)
    low, high = float(ordered[0]), float(ordered[-1])
    first, last = (float(q) for q in np.quantile(ordered, (0.005, 0.995)))
    span = max(last - first, (high - low) * 1e-6)
    start, end = first if low < first - _FAR * span else low, last if high > last + _FAR * span else high
    inside = ordered[(ordered >= start) & (ordered <= end)]
    gaps = np.diff(inside)
    widest = int(gaps.argmax()) if len(gaps) else 0
    if not len(gaps) or gaps[widest] < _APART * (end - start):
        return start, end
    below, above = widest + 1, len(inside) - widest - 1
    if min(below, above) > _HEAP * len(inside):
        return start, end
    kept = inside[below:] if below < above else inside[:below]
    if len(np.unique(kept)) < _VALUES:  # of few values each has its bar anyway
        return start, end
    room = 0.12 * float(kept[-1] - kept[0])
    return (float(kept[0]) - room, end) if below < above else (start, float(kept[-1]) + room)


def _edges(values: Array, start: float, end: float) -> Array:
    """One bin a value for few whole numbers; else as many as Freedman and Diaconis ask for, 8 to 32."""
    inside = values[(values >= start) & (values <= end)]
    whole = end - start < _COUNTABLE and bool(np.all(inside == np.round(inside)))
    if whole and end - start < _BINS:
        return np.arange(math.floor(start) - 0.5, math.ceil(end) + 1.0)
    low, high = np.quantile(inside, (0.25, 0.75))
    width = 2 * float(high - low) / max(len(inside), 1) ** (1 / 3)
    wanted = (end - start) / width if width > (end - start) / _BINS else float(_BINS)
    bins = min(_BINS, max(8, math.ceil(wanted)))
    if whole and end - start > bins:  # every bin holds equally many whole numbers
        step = math.ceil((end - start + 1) / bins)
        return np.arange(math.floor(start) - 0.5, math.ceil(end) + 0.5 + step, step)
    return np.linspace(start, end, bins + 1)


def bars(title: str, counts: Mapping[str, Mapping[str, int]], note: str = "", most: int = MOST_BARS) -> Bars | None:
    """Shares of the commonest values by split; None where nothing was counted."""
    total: Counter[str] = Counter()
    for own in counts.values():
        total.update(own)
    if not total:
        return None
    names = [name for name, _ in sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:most]]
    series = []
    for split, own in counts.items():
        known = sum(own.values())
        if known:
            series.append(Series(split, tuple(own.get(name, 0) / known for name in names), known))
    return Bars(title, tuple(names), tuple(series), note, len(total) - len(names))


def counted(values: Iterable[Any]) -> dict[str, int]:
    """How often each value occurs, missing ones left out."""
    return dict(Counter(str(value) for value in values if value is not None and value == value))


def shares(title: str, parts: Sequence[tuple[str, Mapping[str, tuple[int, int]]]], note: str = "") -> Bars | None:
    """For each name, by split, how many of how many: the largest share of any split first."""

    def largest(part: tuple[str, Mapping[str, tuple[int, int]]]) -> float:
        return max((hit / of for hit, of in part[1].values() if of), default=0.0)

    ranked = sorted((part for part in parts if largest(part) > 0), key=lambda part: -largest(part))
    shown = ranked[:MOST_BARS]
    if not shown:
        return None
    splits = dict.fromkeys(split for _, own in shown for split in own)
    series = []
    for split in splits:
        told = [own.get(split, (0, 0)) for _, own in shown]
        series.append(Series(split, tuple(hit / of if of else 0.0 for hit, of in told), max(of for _, of in told)))
    return Bars(title, tuple(name for name, _ in shown), tuple(series), note, len(ranked) - len(shown))
