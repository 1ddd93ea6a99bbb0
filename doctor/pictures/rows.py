"""Rows of a table as examples of a finding: the first ones, or, where rows are alike, some groups of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from doctor.evidence.table_rows import Rows
from doctor.findings import Finding, RowList
from doctor.pictures.records import MOST_ROWS, Cell, RowTable
from doctor.pictures.texts import excerpt
from doctor.tables.columns import Column
from doctor.tables.tables import Tables

LONGEST_CELL = 60
_COLUMNS = 7
_GROUPS, _OF_GROUP = 4, 3
_REPEATS, _LEAKS, _CONFLICTS = "DAT002", "DAT003", "DAT005"

Place = tuple[int, int]  # number of the split, number of the row in it


@dataclass(frozen=True)
class _Plan:
    """What is to be shown of one finding: places in groups, and columns."""

    at: int
    finding: Finding
    groups: list[list[Place]]
    columns: list[Column]


def examples(tables: Tables, findings: Sequence[Finding]) -> Iterator[tuple[int, RowTable]]:
    """A table of rows for each finding that has some, with its place; one scan reads the rows of all."""
    plans = [plan for at, finding in enumerate(findings) if (plan := _plan(tables, at, finding)) is not None]
    columns = list({column.key: column for plan in plans for column in plan.columns}.values())
    places = {place for plan in plans for group in plan.groups for place in group}
    values = _read(tables, columns, places)
    for plan in plans:
        table = _table(tables, plan, values)
        if table is not None:
            yield plan.at, table


def _plan(tables: Tables, at: int, finding: Finding) -> _Plan | None:
    found = finding.rows
    if found is None or not found.count:
        return None
    column = tables.named(finding.location.column) if finding.location.column else None
    alike = finding.rule in (_REPEATS, _LEAKS, _CONFLICTS) and isinstance(found.every, Rows)
    groups = _alike(tables, finding.rule, found.every) if alike else [[place] for place in _first(tables, found)]
    if not groups:
        return None
    leading = [one for one in (column, tables.target, tables.split_column) if one is not None]
    columns = list({one.key: one for one in (*leading, *tables.columns)}.values())[:_COLUMNS]
    return _Plan(at, finding, groups, sorted(columns, key=lambda one: one is not column))


def _first(tables: Tables, found: RowList) -> list[Place]:
    """The first rows of a finding; none where they are no rows of this table."""
    if isinstance(found.every, Rows) and found.every.sql:
        if found.every.tables is not tables:
            return []
        sql = f"SELECT split_no, row_no FROM ({found.every.sql}) AS r ORDER BY split_no, row_no LIMIT {MOST_ROWS}"
        return [(number, row) for number, row in tables.engine.rows(sql)]
    places = []
    for row in found.first[:MOST_ROWS]:
        files = tables.files.get(row.split, ())
        if row.split not in tables.splits or (row.path is not None and row.path not in files):
            return []
        before = files.index(row.path) if row.path is not None else 0
        places.append((tables.splits.index(row.split), sum(tables.file_rows[row.split][:before]) + row.row))
    return places


def _alike(tables: Tables, rule: str, rows: Rows) -> list[list[Place]]:
    """Some of the rows, each with those that it is like (`alike` is the relation that the search for copies keeps)."""
    hits = f"SELECT split_no, row_no FROM ({rows.sql}) AS r ORDER BY split_no, row_no LIMIT {4 * _GROUPS}"
    one = "a.split_no = h.split_no AND a.row_no = h.row_no"
    groups = f"SELECT DISTINCT a.g FROM alike AS a JOIN ({hits}) AS h ON {one}"
    numbered = "row_number() OVER (PARTITION BY a.g, a.split_no, a.y ORDER BY a.row_no) AS k"
    sql = (
        f"SELECT g, split_no, row_no, {tables.dialect.text('y')} FROM (SELECT a.g, a.split_no, a.row_no, a.y, {numbered} "
        f"FROM alike AS a JOIN ({groups}) AS w ON a.g = w.g) AS n WHERE k <= 2 ORDER BY g, split_no, row_no"
    )
    found: dict[Any, list[tuple[int, int, Any]]] = {}
    for group, split, row, target in tables.engine.rows(sql):
        found.setdefault(group, []).append((split, row, target))
    split = tables.splits.index(rows.first[0].split) if rows.first else 0
    pick = {_REPEATS: _copies, _LEAKS: _leaked, _CONFLICTS: _contradicting}[rule]
    picked = (pick(split, members) for members in found.values())
    return sorted(islice((group for group in picked if len(group) > 1), _GROUPS))


def _copies(split: int, members: list[tuple[int, int, Any]]) -> list[Place]:
    by_target: dict[Any, list[Place]] = {}
    for number, row, target in members:
        if number == split:
            by_target.setdefault(target, []).append((number, row))
    return next((same for same in by_target.values() if len(same) > 1), [])


def _leaked(split: int, members: list[tuple[int, int, Any]]) -> list[Place]:
    first = {number: (number, row) for number, row, _ in reversed(members)}
    return [first[number] for number in sorted(first) if number == split or number == min(first)]


def _contradicting(split: int, members: list[tuple[int, int, Any]]) -> list[Place]:
    first = {target: (number, row) for number, row, target in reversed(members) if number == split}
    return sorted(first.values())[:_OF_GROUP]


def _read(tables: Tables, columns: Sequence[Column], places: set[Place]) -> dict[Place, dict[str, Any]]:
    if not places:
        return {}
    wanted = " OR ".join(f"(split_no = {split} AND row_no = {row})" for split, row in sorted(places))
    keys = ", ".join(["split_no", "row_no", *(column.key for column in columns)])
    found = tables.engine.rows(f"SELECT {keys} FROM data WHERE {wanted}")
    return {(row[0], row[1]): dict(zip((c.key for c in columns), row[2:], strict=True)) for row in found}


def _table(tables: Tables, plan: _Plan, values: dict[Place, dict[str, Any]]) -> RowTable | None:
    groups = [[place for place in group if place in values] for group in plan.groups]
    if not any(groups):
        return None
    about = plan.finding.location.column
    marked = tables.target.name if plan.finding.rule == _CONFLICTS and tables.target else about
    said = {(row.split, row.row): row.value for row in plan.finding.rows.first} if plan.finding.rows else {}

    def row(place: Place) -> tuple[Cell, ...]:
        split = tables.splits[place[0]]
        path, number = tables.place(split, place[1])
        told = said.get((split, number))
        cells = [Cell(f"{split if len(tables.splits) > 1 or path is None else path} {number}")]
        for column in plan.columns:
            value = values[place][column.key]
            if value is None and column.name == about and told is not None:  # what is no value of the column's kind
                value = told
            cells.append(Cell(_shown(value), column.name == marked))
        return tuple(cells)

    body = tuple(tuple(row(place) for place in group) for group in groups if group)
    left_out = len(tables.columns) - len(plan.columns)
    several = max(map(len, body)) > 1
    return RowTable(
        "rows that belong together" if several else "the first of these rows",
        ("row", *(column.name for column in plan.columns)),
        body,
        f"{left_out} more column{'s' * (left_out != 1)} not shown" if left_out else "",
    )


def _shown(value: Any) -> str | None:
    """A value as a cell: short, masked; None for a missing one."""
    if value is None or value != value:
        return None
    if isinstance(value, float):
        return f"{value:.6g}"
    return excerpt(str(value).removesuffix(" 00:00:00"), LONGEST_CELL)
