"""Facts about columns that need a look at their values: twins of other columns, two units in one, broken encodings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.table_profile import TableProfile
from doctor.evidence.table_rows import Rows, rows_where
from doctor.evidence.table_sample import Array, SplitSample, TableSample
from doctor.probes import probe
from doctor.tables.columns import TEXT
from doctor.tables.dialect import literal, settled

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np

# UTF-8 read as Latin-1 or Windows-1252: a lead byte shown as a letter and its follower as a sign; and the mark of loss.
MOJIBAKE = "[\u00c2\u00c3][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]|\u00e2\u20ac[\u0080-\u00bf\u2018-\u2122\u0152\u0153]|\ufffd|[\u00d0\u00d1][\u0080-\u00bf]"


@dataclass(frozen=True)
class TwoUnits:
    """A column of numbers in two heaps of one shape; the smaller is `factor` times the larger, or an affine map of it.

    `separation` is the distance of the heaps over the sum of their deviations, `remainder` the Kolmogorov-Smirnov
    statistic between them after the map.
    """

    column: str
    units: tuple[float, float]  # scale and offset from the larger heap to the smaller
    deviation: float
    threshold: float
    rows: Rows
    separation: float
    remainder: float
    centres: tuple[float, float]
    error: float = 0.0  # relative standard error of the factor
    foretold: float = 0.0  # how well other columns tell the heaps apart, 0 to 1: a unit does not follow from the rest


@dataclass(frozen=True)
class Garbled:
    """A text column with values that were decoded wrongly."""

    column: str
    rows: Rows


@dataclass(frozen=True)
class Spellings:
    """Values of a category column that differ by case or blanks only; `rows` are those of the rarer spellings."""

    column: str
    role: str
    groups: tuple[tuple[str, ...], ...]
    rows: Rows


@dataclass(frozen=True)
class ColumnFacts(Evidence):
    """`twins` are pairs of columns with equal values in every row."""

    twins: tuple[tuple[str, str], ...]
    units: tuple[TwoUnits, ...]
    garbled: tuple[Garbled, ...]
    spellings: tuple[Spellings, ...]


@probe
def column_facts(source: DataSource, profile: TableProfile, sample: TableSample) -> ColumnFacts:
    """Candidates by profile and sample, proven on the rows."""
    return ColumnFacts(
        tuple(_twins(source, profile)),
        tuple(_units(source, profile, sample)),
        tuple(_garbled(source, profile)),
        tuple(_spellings(source, profile)),
    )


def _twins(source: DataSource, profile: TableProfile) -> list[tuple[str, str]]:
    seen: dict[object, list[str]] = {}
    for column in profile.features:
        key = tuple((s.nulls, s.numbers, s.values or s.distinct) for s in column.splits)
        if not column.column.absent and any(s.distinct > 1 for s in column.splits):
            seen.setdefault((column.column.kind, key), []).append(column.name)
    pairs = [(names[0], other) for names in seen.values() for other in names[1:]]
    differing = []
    for pair in pairs:
        one, two = (settled(known) for name in pair if (known := source.tables.named(name)) is not None)
        same = f"{one} = {two} OR ({one} IS NULL AND {two} IS NULL)"
        differing.append(f"count(*) FILTER (WHERE NOT coalesce({same}, false))")
    counts = source.tables.ask(differing) if pairs else []
    return [pair for pair, count in zip(pairs, counts, strict=True) if count == 0]


def _units(source: DataSource, profile: TableProfile, sample: TableSample) -> list[TwoUnits]:
    tables = source.tables
    candidates: dict[str, tuple[SplitSample, list[_Heaps]]] = {}
    for name in (*sample.compared, *([sample.target] if sample.target and not sample.classifies else [])):
        if sample.kinds[name] != "number":
            continue
        for split in sample.splits:  # within a split: between two of them it is a matter of preparation
            values = split.values[name]
            heaps = _two_heaps(values[np.isfinite(values)])
            if heaps:
                candidates[name] = (split, heaps)
                break
    found = []
    for name, (split, several) in candidates.items():
        column = tables.named(name)
        assert column is not None
        for heap in several:
            condition = f"{settled(column)} {'>' if heap.small_above else '<='} {heap.threshold!r}"
            condition += f" AND split_no = {tables.splits.index(split.name)}"
            (count,) = tables.ask([f"count(*) FILTER (WHERE {condition})"])
            rows = rows_where(tables, condition, int(count), value=column.key)
            foretold = _foretold(sample, split, name, heap.threshold, frozenset(candidates))
            found.append(
                TwoUnits(name, heap.units, heap.deviation, heap.threshold, rows, heap.separation, heap.remainder,
                         heap.centres, heap.error, foretold)
            )  # fmt: skip
    return found


@dataclass(frozen=True)
class _Heaps:
    """Two heaps of one shape: the cut between, whether the smaller lies above it, and the map from the larger to it."""

    threshold: float
    small_above: bool
    units: tuple[float, float]
    separation: float
    remainder: float
    centres: tuple[float, float]
    deviation: float
    error: float


def _foretold(sample: TableSample, split: SplitSample, name: str, threshold: float, besides: frozenset[str]) -> float:
    """Out-of-fold score of a tree that tells the heap from the other numbers (without those in two heaps themselves)."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    values = split.values[name]
    known = np.flatnonzero(np.isfinite(values))[:5000]
    which = values[known] > threshold
    names = tuple(n for n in sample.features if sample.kinds[n] == "number" and n not in besides)
    data = sample.matrix(split, names)
    if sample.target and sample.target != name:
        data = np.column_stack([data, sample.labels(split).astype(float)])
    if not data.shape[1] or min(which.sum(), (~which).sum()) < 6:
        return 0.0
    model = DecisionTreeClassifier(max_depth=4, min_samples_leaf=3, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_predict(model, data[known], which, cv=folds, method="predict_proba")[:, 1]
    return float(max(0.0, 2 * roc_auc_score(which, scores) - 1))


# Maps with an offset: Celsius to Fahrenheit and back, Celsius to Kelvin and back.
_OFFSET_MAPS = ((1.8, 32.0), (1 / 1.8, -32 / 1.8), (1.0, 273.15), (1.0, -273.15))


def _two_heaps(values: Array) -> list[_Heaps]:
    """Each way in which the smaller of two heaps is the larger one in another unit; none for most columns."""
    if len(values) < 100 or len(np.unique(values)) < 30:
        return []
    found = []
    for logarithmic in (True, False) if (values > 0).all() else (False,):
        scale = np.sort(np.log(values) if logarithmic else values)
        cut = _valley(scale)
        if cut is None:
            continue
        low, high = scale[scale <= cut], scale[scale > cut]
        small, large = (high, low) if len(high) <= len(low) else (low, high)
        separation = abs(high.mean() - low.mean()) / max(high.std() + low.std(), 1e-12)
        if len(small) < max(8, 0.003 * len(scale)) or separation < 1.8:
            continue
        shift = float(np.median(small) - np.median(large))
        raw_large, raw_small = (np.exp(large), np.exp(small)) if logarithmic else (large, small)
        threshold = float(np.exp(cut)) if logarithmic else float(cut)
        centres = (float(np.median(raw_large)), float(np.median(raw_small)))
        maps = [(float(np.exp(shift)), 0.0)] if logarithmic and abs(shift) > 0.26 else list(_OFFSET_MAPS)
        for units in maps:
            expected = raw_large * units[0] + units[1]
            near = abs(np.median(expected) - centres[1]) <= 0.5 * max(raw_small.std(), 1e-12)
            remainder = _ks(raw_small, expected)
            if near and remainder <= 0.12 + 1.0 / np.sqrt(len(small)):
                deviation = float(raw_large.std())
                error = 1.25 * float(np.hypot(small.std() / np.sqrt(len(small)), large.std() / np.sqrt(len(large))))
                found.append(
                    _Heaps(threshold, small is high, units, float(separation), remainder, centres, deviation,
                           error if logarithmic else 0.0)
                )  # fmt: skip
    return found


def _valley(ordered: Array) -> float | None:
    """The cut that divides best (Otsu), moved to the emptiest place near it; None where no valley is."""
    count = len(ordered)
    sums = np.cumsum(ordered)
    k = np.arange(1, count)
    between = (sums[-1] * k / count - sums[:-1]) ** 2 / (k * (count - k))
    best = int(np.argmax(between))
    low_mean, high_mean = ordered[: best + 1].mean(), ordered[best + 1 :].mean()
    inner = ordered[(ordered > low_mean) & (ordered < high_mean)]
    edges = np.linspace(low_mean, high_mean, 26)
    counts, _ = np.histogram(inner, bins=edges)
    smooth = np.convolve(counts, np.ones(3) / 3, mode="same")
    place = int(np.argmin(smooth[3:-3])) + 3
    peak = min(smooth[:place].max(initial=0), smooth[place:].max(initial=0))
    if smooth[place] > 0.35 * peak or peak == 0:
        return None
    return float((edges[place] + edges[place + 1]) / 2)


def _ks(one: Array, two: Array) -> float:
    from scipy.stats import ks_2samp

    return float(ks_2samp(one, two, method="asymp").statistic)


def _garbled(source: DataSource, profile: TableProfile) -> list[Garbled]:
    tables = source.tables
    garbled = re.compile(MOJIBAKE)
    texts = [c for c in profile.columns if c.column.kind == TEXT]
    texts = [c for c in texts if not c.counts or any(garbled.search(value) for value in c.counts)]
    conditions = [  # what is garbled has signs beyond ASCII, which are told faster
        f"{tables.dialect.beyond_ascii(c.column.key)} AND {tables.dialect.matches(c.column.key, MOJIBAKE)}"
        for c in texts
    ]
    counts = tables.ask([f"count(*) FILTER (WHERE {condition})" for condition in conditions]) if texts else []
    return [
        Garbled(column.name, rows_where(tables, condition, int(count), value=column.column.key))
        for column, condition, count in zip(texts, conditions, counts, strict=True)
        if count
    ]


def _spellings(source: DataSource, profile: TableProfile) -> list[Spellings]:
    found = []
    for column in profile.columns:
        counts = column.counts
        if column.column.kind != TEXT or not 2 <= len(counts) <= 1000 or column.role == "split":
            continue
        groups: dict[str, list[str]] = {}
        for value in counts:
            groups.setdefault(" ".join(value.split()).casefold(), []).append(value)
        several = [sorted(group, key=lambda v: -counts[v]) for group in groups.values() if len(group) > 1]
        if several:
            rarer = [value for group in several for value in group[1:]]
            condition = f"{column.column.key} IN ({', '.join(literal(value) for value in rarer)})"
            count = sum(counts[value] for value in rarer)
            rows = rows_where(source.tables, condition, count, value=column.column.key)
            found.append(Spellings(column.name, column.role, tuple(tuple(group) for group in several), rows))
    return found
