"""What each column of a table holds, split by split: gaps, range, quantiles, commonest values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.probes import probe
from doctor.tables.columns import FLOAT, NESTED, Column
from doctor.tables.dialect import settled
from doctor.tables.tables import Tables
from doctor.tables.typing import blank_list

from .table_rows import Rows, rows_where

SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
THINNED = 200_000  # rows from about which quantiles are taken: every second, third ... row of a larger table
FEW = 5000  # values up to which a column's values are counted one by one


Values = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Numbers:
    """Moments and quantiles (at `SHARES`; of large tables, of a regular part of the rows) of a column's finite numbers."""

    minimum: float
    maximum: float
    mean: float
    deviation: float
    quantiles: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle."""
        return self.quantiles[3]

    @property
    def spread(self) -> float:
        """Quartile distance as a standard deviation of a normal distribution (over 1.349)."""
        return (self.quantiles[4] - self.quantiles[2]) / 1.349


@dataclass(frozen=True)
class ColumnProfile:
    """One column in one split. `nulls` are missing values, NaN among them; `distinct` is approximate above `FEW`.

    `values` are all values with their counts, commonest first, of a column with few; texts as they stand.
    """

    split: str
    rows: int
    nulls: int
    infinite: int = 0
    distinct: int = 0
    numbers: Numbers | None = None
    values: tuple[tuple[str, int], ...] = ()
    missing: Rows | None = None

    @property
    def null_share(self) -> float:
        """Missing values as a share of the rows."""
        return self.nulls / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class ColumnProfiles:
    """One column in all splits."""

    column: Column
    role: str  # feature, target, split
    splits: tuple[ColumnProfile, ...]
    strange: Rows | None = None  # values of a column of numbers that are none

    @property
    def name(self) -> str:
        """As the user knows it."""
        return self.column.name

    def of(self, split: str) -> ColumnProfile | None:
        """The column in one split."""
        return next((profile for profile in self.splits if profile.split == split), None)

    @property
    def rows(self) -> int:
        """Rows in all splits."""
        return sum(profile.rows for profile in self.splits)

    @property
    def nulls(self) -> int:
        """Missing values in all splits."""
        return sum(profile.nulls for profile in self.splits)

    @property
    def counts(self) -> dict[str, int]:
        """The values of a column with few, over all splits."""
        total: dict[str, int] = {}
        for profile in self.splits:
            for value, count in profile.values:
                total[value] = total.get(value, 0) + count
        return total


@dataclass(frozen=True)
class TableProfile(Evidence):
    """All columns, in their order, and the names and sizes of the splits."""

    columns: tuple[ColumnProfiles, ...]
    splits: tuple[tuple[str, int], ...]

    @property
    def features(self) -> tuple[ColumnProfiles, ...]:
        """The columns that a model would be given."""
        return tuple(profiles for profiles in self.columns if profiles.role == "feature")

    @property
    def target(self) -> ColumnProfiles | None:
        """The column to be predicted."""
        return next((profiles for profiles in self.columns if profiles.role == "target"), None)

    def named(self, name: str) -> ColumnProfiles | None:
        """The column of this name."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, ColumnProfiles]:
        return {profiles.name: profiles for profiles in self.columns}

    @property
    def rows(self) -> int:
        """Rows in all splits."""
        return sum(rows for _, rows in self.splits)


@probe
def table_profile(source: DataSource) -> TableProfile:
    """Two scans: numbers of every column, then the values of those that have few."""
    tables = source.tables
    aggregates: list[str] = []
    spans = []
    for column in tables.columns:
        own = _aggregates(tables, column)
        spans.append((len(aggregates), len(aggregates) + len(own)))
        aggregates += own
    answers = tables.by_split(aggregates)
    found = [
        tuple(_profile(tables, column, split, answers[split][start:end]) for split in tables.splits)
        for column, (start, end) in zip(tables.columns, spans, strict=True)
    ]
    counted = [c for c, splits in zip(tables.columns, found, strict=True) if _few(c, splits)]
    values = _values(tables, counted)
    profiles = []
    for column, splits in zip(tables.columns, found, strict=True):
        role = "target" if column == tables.target else "split" if column == tables.split_column else "feature"
        counts = values.get(column.key, {})
        with_values = tuple(_with_values(profile, counts.get(number, ())) for number, profile in enumerate(splits))
        profiles.append(ColumnProfiles(column, role, with_values, _strange(tables, column)))
    return TableProfile(tuple(profiles), tuple(tables.rows_by_split.items()))


def _few(column: Column, splits: tuple[ColumnProfile, ...]) -> bool:
    """Whether a column's values are worth counting: few, and not nearly one a row, as measured numbers are."""
    distinct, rows = max(profile.distinct for profile in splits), max(profile.rows for profile in splits)
    measured = column.kind == FLOAT and distinct > 0.5 * rows and distinct > 50
    return column.kind != NESTED and distinct <= 1.1 * FEW and not measured


def _aggregates(tables: Tables, column: Column) -> list[str]:
    dialect, value = tables.dialect, settled(column)
    if column.kind in ("nested", "boolean"):
        return [f"count({column.key})"]
    if not column.numeric:
        return [f"count({column.key})", dialect.approximate_distinct(column.key)]
    finite = f"CASE WHEN {dialect.infinite(column.key)} THEN NULL ELSE {value} END" if column.kind == "float" else value
    number = f"CAST({finite} AS DOUBLE)"
    every = tables.rows // THINNED
    thinned = f"CASE WHEN row_no % {every} = 0 THEN {number} END" if every > 1 else number
    return [
        f"count({value})", dialect.approximate_distinct(value), f"count({number})", f"min({number})", f"max({number})",
        f"avg({number})", f"stddev_pop({number})", dialect.quantiles(thinned, SHARES),
    ]  # fmt: skip


def _profile(tables: Tables, column: Column, split: str, answers: list[Any]) -> ColumnProfile:
    rows, filled = tables.rows_by_split[split], int(answers[0] or 0)
    missing = rows_where(tables, f"{settled(column)} IS NULL", rows - filled, split)
    if len(answers) == 1:
        distinct = 2 if column.kind == "boolean" else rows
        return ColumnProfile(split, rows, rows - filled, distinct=distinct, missing=missing)
    distinct = int(answers[1] or 0)
    if len(answers) == 2:
        return ColumnProfile(split, rows, rows - filled, distinct=distinct, missing=missing)
    _, _, finite, low, high, mean, deviation, quantiles = answers
    numbers = None
    if low is not None:
        shares = tuple(float(value) for value in quantiles or (low, low, mean, mean, mean, high, high))
        numbers = Numbers(float(low), float(high), float(mean), float(deviation), shares)
    return ColumnProfile(split, rows, rows - filled, filled - int(finite or 0), distinct, numbers, missing=missing)


def _values(tables: Tables, columns: list[Column], at_once: int = 25) -> dict[str, dict[int, Values]]:
    """Values with counts, by column and number of the split; nothing where there prove to be more than `FEW`."""
    found: dict[str, dict[int, list[tuple[str, int]]]] = {}
    for start in range(0, len(columns), at_once):
        parts = [
            f"SELECT '{column.key}' AS k, split_no, {tables.dialect.text('v')} AS v, n FROM (SELECT split_no, "
            f"{settled(column)} AS v, count(*) AS n FROM data WHERE {settled(column)} IS NOT NULL "
            f"GROUP BY split_no, {settled(column)}) AS g"
            for column in columns[start : start + at_once]
        ]
        for key, number, text, count in tables.engine.rows(" UNION ALL ".join(parts)):
            found.setdefault(key, {}).setdefault(number, []).append((str(text), int(count)))
    return {
        key: {
            number: tuple(sorted(values, key=_commonest)) for number, values in by_split.items() if len(values) <= FEW
        }
        for key, by_split in found.items()
    }


def _commonest(value: tuple[str, int]) -> tuple[int, str]:
    return -value[1], value[0]


def _strange(tables: Tables, column: Column) -> Rows | None:
    if not column.unreadable:
        return None
    text = f"t{column.key[1:]}"
    blank = f"lower(trim({text})) IN ({blank_list()})"
    return rows_where(
        tables, f"{text} IS NOT NULL AND {column.key} IS NULL AND NOT {blank}", column.unreadable, value=text
    )


def _with_values(profile: ColumnProfile, values: tuple[tuple[str, int], ...]) -> ColumnProfile:
    if not values:
        return profile
    return replace(profile, distinct=len(values), values=values)
