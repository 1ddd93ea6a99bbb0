"""The places of the rows that a record is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from doctor.tables.tables import Tables

SHOWN = 20


@dataclass(frozen=True)
class Row:
    """One row: its split, its file where it has one, and its number there (from 0)."""

    split: str
    number: int
    path: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class Rows:
    """Rows found: how many of how many, and the question that finds them, asked when they are to be shown."""

    count: int
    of: int
    tables: Tables | None = field(default=None, repr=False, compare=False)
    sql: str = field(default="", repr=False, compare=False)

    @property
    def share(self) -> float:
        """The share of the rows looked at."""
        return self.count / self.of if self.of else 0.0

    @cached_property
    def first(self) -> tuple[Row, ...]:
        """The first `SHOWN` in order."""
        if self.tables is None:
            return ()
        first = []
        for number, row, *value in self.tables.engine.rows(f"{self._ordered} LIMIT {SHOWN}"):
            split = self.tables.splits[number]
            path, place = self.tables.place(split, row)
            first.append(Row(split, place, path, str(value[0])[:60] if value and value[0] is not None else None))
        return tuple(first)

    def __iter__(self) -> Iterator[tuple[str, str | None, int]]:
        """Split, file and row of every one, in order."""
        for number, row, *_ in self.tables.engine.rows(self._ordered) if self.tables is not None else ():
            split = self.tables.splits[number]  # type: ignore[union-attr]
            yield split, *self.tables.place(split, row)  # type: ignore[union-attr]

    def numbers(self, split: str) -> frozenset[int]:
        """The numbers of the rows of one split, in the split."""
        if self.tables is None or split not in self.tables.splits:
            return frozenset()
        number = self.tables.splits.index(split)
        return frozenset(row for place, row, *_ in self.tables.engine.rows(self._ordered) if place == number)

    @property
    def _ordered(self) -> str:
        return f"SELECT * FROM ({self.sql}) AS r ORDER BY split_no, row_no"


def rows_where(tables: Tables, condition: str, count: int, split: str | None = None, value: str | None = None) -> Rows:
    """The rows of `data` (of one split) that a condition holds for."""
    picked = f", {tables.dialect.text(value)} AS v" if value else ""
    within = f"split_no = {tables.splits.index(split)} AND " if split else ""
    of = tables.rows_by_split[split] if split else tables.rows
    return Rows(count, of, tables, f"SELECT split_no, row_no{picked} FROM data WHERE {within}({condition})")
