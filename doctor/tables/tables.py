"""The splits of a data set as one relation of some engine, and the questions that every record asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from doctor.errors import OutOfMemory
from doctor.tables.columns import BrokenRow, Column
from doctor.tables.dialect import Dialect

Row = tuple[Any, ...]
THINNED = 150_000  # rows of a split from which samples are drawn
CELLS = 40_000_000  # values that a sample may hold: rows times columns
FEWEST = 4_000  # rows of a sample, however many columns there are


class Engine(Protocol):
    """What runs the SQL."""

    name: str

    @property
    def dialect(self) -> Dialect:
        """Its names for what SQL has no common one for."""

    def rows(self, sql: str) -> list[Row]:
        """The answer as tuples."""

    def frame(self, sql: str) -> Any:
        """The answer as a pandas frame."""

    def view(self, name: str, sql: str) -> None:
        """Give a query a name."""

    def sampled(self, sql: str, rows: int, total: int) -> str:
        """The query of about so many rows of a query's `total`, the same ones each time."""

    def keep(self, name: str, sql: str) -> None:
        """Compute a relation once and keep it under a name; it may be larger than memory."""


@dataclass(eq=False)
class Tables:
    """The data as relation `data`: columns c0, c1, ... with `split_no` (the place in `splits`) and `row_no` (from 0).

    Row numbers count the records of a split in the order of its files, broken ones included. `files` and `file_rows`
    say, by split, how many records each file holds, `encodings` which lines of a file (from 1) are no UTF-8. A `scanned` share below 1 means that a sample is looked at.
    """

    engine: Engine
    columns: tuple[Column, ...]
    splits: tuple[str, ...]
    target: Column | None = None
    split_column: Column | None = None
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    file_rows: dict[str, tuple[int, ...]] = field(default_factory=dict)
    broken: tuple[BrokenRow, ...] = ()
    encodings: tuple[tuple[str, int, tuple[int, ...]], ...] = ()
    total_rows: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def dialect(self) -> Dialect:
        """The engine's names for what SQL has no common one for."""
        return self.engine.dialect

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns without the target and the one that names the split."""
        return tuple(column for column in self.columns if column not in (self.target, self.split_column))

    @cached_property
    def rows_by_split(self) -> dict[str, int]:
        """Number of readable rows of each split."""
        counts: dict[int, int] = dict(self.engine.rows("SELECT split_no, count(*) FROM data GROUP BY split_no"))
        return {name: counts.get(number, 0) for number, name in enumerate(self.splits)}

    @property
    def rows(self) -> int:
        """Number of readable rows in all splits together."""
        return sum(self.rows_by_split.values())

    def fitting(self, rows: int) -> int:
        """As many of so many rows as `CELLS` values allow, but some thousand of the widest table."""
        return min(rows, max(FEWEST, CELLS // max(len(self.columns), 1)))

    def some(self, number: int, rows: int) -> str:
        """The query of about so many rows of a split (`THINNED` at most), spread by the hash of their number; of all where there are no more.

        Every sample of a large split is drawn from one, which is read once.
        """
        total, rows = self.rows_by_split[self.splits[number]], self.fitting(rows)
        if total <= rows:
            return f"SELECT * FROM data WHERE split_no = {number}"
        return self.engine.sampled(f"SELECT * FROM {self._thinned} WHERE split_no = {number}", rows, total)

    @cached_property
    def _thinned(self) -> str:
        """The relation of at most `THINNED` rows of each split."""
        rows = self.fitting(THINNED)
        if all(total <= 2 * rows for total in self.rows_by_split.values()):
            return "data"
        parts = []
        for number, name in self.each_split():
            total, within = self.rows_by_split[name], f"SELECT * FROM data WHERE split_no = {number}"
            parts.append(self.engine.sampled(within, rows, total) if total > rows else within)
        self.engine.keep("thinned", " UNION ALL ".join(f"({part})" for part in parts))
        return "thinned"

    def ask(self, aggregates: Sequence[str], where: str = "TRUE", of: str = "data", at_once: int = 400) -> list[Any]:
        """One row of aggregates, in as few scans as the engine bears."""
        answers: list[Any] = []
        for start in range(0, len(aggregates), at_once):
            for (row,) in self._divided(aggregates[start : start + at_once], "SELECT ", f" FROM {of} WHERE {where}"):
                answers += row
        return answers

    def _divided(self, aggregates: Sequence[str], before: str, after: str) -> list[list[Row]]:
        """The answers to aggregates in one scan, or in several where the memory is too little for all at once."""
        listed = ", ".join(f"{sql} AS a{i}" for i, sql in enumerate(aggregates))
        try:
            return [self.engine.rows(f"{before}{listed}{after}")]
        except OutOfMemory:
            half = len(aggregates) // 2
            if not half:
                raise
            return [
                rows for part in (aggregates[:half], aggregates[half:]) for rows in self._divided(part, before, after)
            ]

    def by_split(self, aggregates: Sequence[str], at_once: int = 400) -> dict[str, list[Any]]:
        """The aggregates for each split, in as few scans as the engine bears."""
        answers: dict[str, list[Any]] = {name: [] for name in self.splits}
        for start in range(0, len(aggregates), at_once):
            part = aggregates[start : start + at_once]
            found: dict[int, list[Any]] = {}
            for rows in self._divided(part, "SELECT split_no, ", " FROM data GROUP BY split_no"):
                for number, *row in rows:
                    found.setdefault(number, []).extend(row)
            for number, name in enumerate(self.splits):
                answers[name] += found.get(number, [None] * len(part))
        return answers

    def place(self, split: str, row: int) -> tuple[str | None, int]:
        """The file that holds a row of a split, and the row's number in that file."""
        for file, rows in zip(self.files.get(split, ()), self.file_rows.get(split, ()), strict=False):
            if row < rows:
                return file, row
            row -= rows
        return None, row

    def named(self, name: str) -> Column | None:
        """The column of this name."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    def each_split(self) -> Iterator[tuple[int, str]]:
        """Number and name of each split."""
        return iter(enumerate(self.splits))

    def summary(self) -> dict[str, Any]:
        """What was read, for the report."""
        return {
            "engine": self.engine.name,
            "splits": {name: self.rows_by_split[name] for name in self.splits},
            "files": {name: list(files) for name, files in self.files.items()},
            "columns": len(self.columns),
            "broken_records": len(self.broken),
            **({"rows_examined": self.rows, "rows_total": self.total_rows} if self.total_rows else {}),
        }
