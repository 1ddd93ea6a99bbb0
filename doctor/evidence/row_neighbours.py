"""Evaluation rows of a table that are nearly a training row, by their columns or by one column of text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.row_matches import RowMatches
from doctor.evidence.table_rows import Rows
from doctor.evidence.table_sample import Array, SplitSample, TableSample
from doctor.probes import probe

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np

ANCHORS = 3_000  # training rows whose own neighbours say what is usual
PAIRS = 500_000  # pairs of rows that are compared for each column by which candidates are found
BY = 4  # columns by which candidates are found: a copy agrees in one of them at least
NEAR = 0.05  # of a column's spread, within which values can be those of a copy
APART = 0.1  # of a column's spread, from which values are simply others
MEASURED = 3  # columns of many values that a row must have, for a neighbour to mean anything
LETTERS = 25  # of a text at least: shorter ones are said by many
_UNLIKE = math.inf


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How near rows of `split` are to the nearest training row, and how near some training rows are to another.

    `distance` and `usual` run from 0 to 1: the mean over columns of the difference, in tenths of the column's spread
    and at most 1, and 1 for another category; of a text (`column`) one less the overlap of 5-letter pieces. What shares no value is infinite.
    """

    split: str
    column: str | None
    numbers: Array
    distance: Array
    usual: Array
    compared: int  # training rows
    total: int  # rows of the split
    source: DataSource

    def copies(self, farthest: float, false: float) -> tuple[float, Array]:
        """The largest distance, up to `farthest`, within which at most a share `false` is of what is usual anyway, and
        the places of the rows there.
        """
        for limit in np.geomspace(farthest, farthest / 500, 40):
            near = np.flatnonzero(self.distance <= limit)
            by_itself = float((self.usual <= limit).mean()) * len(self.distance)
            if len(near) and by_itself <= false * len(near):
                return float(limit), near
        return 0.0, np.zeros(0, int)

    def rows(self, places: Array) -> Rows:
        """The rows at these places."""
        tables = self.source.tables
        number = tables.splits.index(self.split)
        listed = ", ".join(str(int(row)) for row in self.numbers[places]) or "-1"
        sql = f"SELECT split_no, row_no FROM data WHERE split_no = {number} AND row_no IN ({listed})"
        return Rows(len(places), self.total, tables, sql)


@dataclass(frozen=True, eq=False)
class RowNeighbours(Evidence):
    """One record for each evaluation split, and one for each column of texts."""

    found: tuple[Neighbours, ...]


@probe
def row_neighbours(source: DataSource, sample: TableSample, matches: RowMatches | None) -> RowNeighbours:
    """Rows of the samples (20,000 a split), without those that are equal to a training row."""
    if not sample.others:
        raise Unavailable("there is no second split")
    leaked = {leak.split: leak.rows for leak in matches.leaks} if matches else {}
    measured = [name for name in sample.features if _measured(sample, name)]
    found = []
    for split in sample.others:
        equal = leaked[split.name].numbers(split.name) if split.name in leaked else frozenset()
        other = np.flatnonzero(~np.isin(split.rows, list(equal))) if equal else np.arange(len(split.rows))
        if len(measured) >= MEASURED and len(other):
            found.append(_by_columns(source, sample, split, other, measured))
        found += [_by_text(source, sample, split, other, name) for name in sample.prose if len(other)]
    return RowNeighbours(tuple(found))


def _measured(sample: TableSample, name: str) -> bool:
    if sample.kinds[name] != "number":
        return False
    values = sample.base.values[name]
    known = values[np.isfinite(values)]
    return len(known) >= 50 and len(np.unique(known)) >= max(40, 0.1 * len(known))


def _by_columns(
    source: DataSource, sample: TableSample, split: SplitSample, other: Array, measured: list[str]
) -> Neighbours:
    names = [name for name in sample.features if sample.kinds[name] in ("number", "category")]
    scaled = [_scaled(sample, split, name) for name in names]
    base = np.column_stack([one for one, _ in scaled]).astype(np.float32)
    rows = np.column_stack([two for _, two in scaled]).astype(np.float32)[other]
    base = np.unique(base, axis=0)  # repeats within training are no measure of what is usual
    most = sorted(measured, key=lambda name: -len(np.unique(sample.base.values[name])))
    by = [names.index(name) for name in most[:BY]]
    anchors = np.random.default_rng(0).permutation(len(base))[:ANCHORS]
    return Neighbours(
        split.name, None, split.rows[other], _nearest(rows, base, by), _nearest(base[anchors], base, by, anchors),
        len(base), split.total, source,
    )  # fmt: skip


def _scaled(sample: TableSample, split: SplitSample, name: str) -> tuple[Array, Array]:
    """A column of training and of the split in units of its spread; missing values and categories lie far from others."""
    one, two = sample.column(sample.base, name), sample.column(split, name)
    if sample.kinds[name] == "category":
        return np.nan_to_num(one, nan=-9.0) * 3, np.nan_to_num(two, nan=-9.0) * 3
    known = one[np.isfinite(one)]
    if not len(known):
        return np.zeros(len(one)), np.zeros(len(two))
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75))
    spread = (high - low) / 1.349 or float(known.std()) or 1.0
    return tuple(np.nan_to_num((values - middle) / spread, nan=-1e6) for values in (one, two))


def _nearest(rows: Array, base: Array, by: list[int], apart: Array | None = None) -> Array:
    """The distance of each row to the nearest of `base` (`apart` is its own place there)."""
    found = np.full(len(rows), _UNLIKE, np.float32)
    for column in by:
        order = np.argsort(base[:, column], kind="stable")
        ordered, wanted = base[order, column], rows[:, column]
        near = NEAR
        for _ in range(12):
            low = np.searchsorted(ordered, wanted - near, "left")
            high = np.searchsorted(ordered, wanted + near, "right")
            if (high - low).sum() <= PAIRS:
                break
            near /= 2
        counts = np.minimum(high - low, 2_000)  # a value that so many rows have says little
        ends = np.cumsum(counts)
        start = 0
        while start < len(rows):
            stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + 100_000, "right")))
            own = np.repeat(np.arange(start, stop), counts[start:stop])
            if len(own):
                first = np.repeat(ends[start:stop] - counts[start:stop], counts[start:stop])
                place = np.arange(len(own)) + (ends[start - 1] if start else 0) - first + low[own]
                theirs = order[place]
                apart_by = np.minimum(np.abs(rows[own] - base[theirs]) / APART, 1).mean(axis=1)
                if apart is not None:
                    apart_by[theirs == apart[own]] = _UNLIKE
                np.minimum.at(found, own, apart_by)
            start = stop
    return found


def _by_text(source: DataSource, sample: TableSample, split: SplitSample, other: Array, name: str) -> Neighbours:
    from doctor.samples.minhash import plain, sketch
    from doctor.samples.neighbours import nearest_sketches

    def known(values: Array) -> dict[int, str]:
        texts = {place: plain(value) for place, value in enumerate(values) if value is not None}
        return {place: text for place, text in texts.items() if len(text) >= LETTERS}

    theirs = list(dict.fromkeys(known(sample.base.values[name]).values()))
    own = known(split.values[name][other])
    distance: Any = np.full(len(other), _UNLIKE, np.float32)
    usual: Any = np.full(1, _UNLIKE, np.float32)
    if theirs and own:
        base = np.stack([sketch(text) for text in theirs])
        anchors = np.sort(np.random.default_rng(0).permutation(len(theirs))[: ANCHORS // 2])
        _, distance[list(own)] = nearest_sketches(np.stack([sketch(text) for text in own.values()]), base)
        _, usual = nearest_sketches(base[anchors], base, anchors)
    return Neighbours(split.name, name, split.rows[other], distance, usual, len(theirs), split.total, source)
