"""What columns of numbers hold besides some of their values, for many columns in one scan; for those with few values
from their counts, in none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, sqrt

from doctor.evidence.table_profile import SHARES, ColumnProfiles, Numbers
from doctor.tables.dialect import settled
from doctor.tables.tables import Tables

Asked = tuple[ColumnProfiles, tuple[float, ...]]


@dataclass(frozen=True)
class Others:
    """A column's finite numbers without some: how many, how many different ones (about), and how they are distributed."""

    filled: int
    distinct: int
    numbers: Numbers


def others(tables: Tables, asked: Sequence[Asked]) -> list[Others | None]:
    """Of each column what it holds besides the values beside it; None where that is nothing."""
    counted = [_counted(column) for column, _ in asked]
    aggregates = []
    for (column, without), counts in zip(asked, counted, strict=True):
        if counts is None:
            number = _number(tables, column, without)
            aggregates += [
                f"count({number})", tables.dialect.approximate_distinct(number), f"min({number})", f"max({number})",
                f"avg({number})", f"stddev_pop({number})", tables.dialect.quantiles(number, SHARES),
            ]  # fmt: skip
    answers = iter(tables.ask(aggregates) if aggregates else ())
    found: list[Others | None] = []
    for (_, without), counts in zip(asked, counted, strict=True):
        if counts is not None:
            found.append(_of_counts({value: n for value, n in counts.items() if value not in without}))
            continue
        filled, distinct, low, high, mean, deviation, quantiles = (next(answers) for _ in range(7))
        numbers = Numbers(low, high, mean, deviation, tuple(map(float, quantiles))) if filled else None
        found.append(Others(int(filled), int(distinct), numbers) if numbers else None)
    return found


def counts_of(tables: Tables, asked: Sequence[tuple[ColumnProfiles, float]]) -> list[int]:
    """How many rows hold each value in the column beside it."""
    counted = [_counted(column) for column, _ in asked]
    aggregates = [
        f"count(*) FILTER (WHERE {settled(column.column)} = {value!r})"
        for (column, value), counts in zip(asked, counted, strict=True)
        if counts is None
    ]
    answers = iter(tables.ask(aggregates) if aggregates else ())
    return [
        int(next(answers)) if counts is None else counts.get(value, 0)
        for (_, value), counts in zip(asked, counted, strict=True)
    ]


def _number(tables: Tables, column: ColumnProfiles, without: tuple[float, ...]) -> str:
    key, value = column.column.key, settled(column.column)
    gone = [f"{value} IN ({', '.join(map(repr, without))})"] if without else []
    if column.column.kind == "float":
        gone.append(tables.dialect.infinite(key))
    number = f"CAST({value} AS DOUBLE)"
    return f"(CASE WHEN {' OR '.join(gone)} THEN NULL ELSE {number} END)" if gone else number


def _counted(column: ColumnProfiles) -> dict[float, int] | None:
    """The values with their counts, where all of them are known."""
    if not all(split.values or split.nulls == split.rows for split in column.splits):
        return None
    found: dict[float, int] = {}
    for text, count in column.counts.items():
        value = float(text)
        if value not in (float("inf"), -float("inf")):
            found[value] = found.get(value, 0) + count
    return found


def _of_counts(counts: dict[float, int]) -> Others | None:
    if not counts:
        return None
    values = sorted(counts)
    ends = list(accumulate(counts[value] for value in values))
    total = ends[-1]
    mean = sum(value * counts[value] for value in values) / total
    deviation = sqrt(sum(counts[value] * (value - mean) ** 2 for value in values) / total)

    def at(place: int) -> float:
        return values[bisect_left(ends, place + 1)]

    def quantile(share: float) -> float:
        place = share * (total - 1)
        low, high = at(floor(place)), at(ceil(place))
        return low + (high - low) * (place - floor(place))

    quantiles = tuple(quantile(share) for share in SHARES)
    return Others(total, len(values), Numbers(values[0], values[-1], mean, deviation, quantiles))
