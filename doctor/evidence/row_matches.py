"""Rows that are alike: within a split, across splits, with the same target and with another; and how many by chance.

Each row's features are hashed once (64 bits); rows whose hash occurs again are candidates, and these are compared on
their values. What chance makes alike is estimated by leaving one column out: pairs that agree in all other columns and
differ in this one tell how many agree in it, too, by coincidence. Where coincidence makes many, rows with a long text
(which it never repeats) and stretches of rows in one order are looked at by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import TRAIN, DataSource
from doctor.evidence.identifiers import Identifiers
from doctor.evidence.redelivered_rows import redelivered
from doctor.evidence.table_profile import ColumnProfiles, TableProfile
from doctor.evidence.table_rows import Rows
from doctor.probes import probe
from doctor.tables.columns import NESTED, TEXT, Column
from doctor.tables.dialect import settled
from doctor.tables.tables import THINNED, Tables

LEFT_OUT = 6  # columns left out in turn, those that tell most rows apart
KEYS = 2  # columns of ids that together name a row (a user and an item): such a table repeats none by chance
FEWER = 0.5  # equal pairs over those that coincidence would make, below which rows are named so
MOST_TEXTS = 5_000_000  # values of text up to which long ones are counted
LONG = 25  # letters of a text that no two people write alike
BEYOND = 3.0  # times the pairs of coincidence, above which nothing more is asked


@dataclass(frozen=True)
class Repeats:
    """Rows of one split that repeat an earlier one of it, target included. `pairs` and `by_chance` count equal pairs."""

    split: str
    rows: Rows
    pairs: int
    by_chance: float
    instead: Repeats | None = None  # the same among rows that coincidence does not make alike
    in_order: bool = False


@dataclass(frozen=True)
class Conflicts:
    """Rows of one split whose features stand there with another target, too; `groups` are the distinct features."""

    split: str
    rows: Rows
    groups: int
    minority: int  # rows that had to change for the groups to agree
    pairs: int
    by_chance: float
    instead: Conflicts | None = None  # the same among rows that coincidence does not make alike


@dataclass(frozen=True)
class Leak:
    """Rows of `split` whose features stand in `source`, too; `same_target` of them with the same target."""

    source: str
    split: str
    rows: Rows
    same_target: int
    pairs: int
    by_chance: float
    instead: Leak | None = None  # the same among rows that coincidence does not make alike


@dataclass(frozen=True)
class RowMatches(Evidence):
    """What is alike. `compared` are the columns by which rows were compared, `left_out` those that only name rows."""

    repeats: tuple[Repeats, ...]
    conflicts: tuple[Conflicts, ...]
    leaks: tuple[Leak, ...]
    compared: tuple[str, ...]
    left_out: tuple[str, ...]
    collisions: int = 0
    numeric_target: bool = False


@probe
def row_matches(source: DataSource, profile: TableProfile, ids: Identifiers) -> RowMatches:
    """One scan for the hashes, one for the candidates' values."""
    tables = source.tables
    compared = [column for column in tables.features if column.name not in ids.names and not column.absent]
    compared = [column for column in compared if _tells(profile.named(column.name))]
    if not compared:
        raise Unavailable("no columns by which rows could be compared")
    tables.engine.keep("hashes", f"SELECT split_no, row_no, {tables.dialect.row_hash(compared)} AS h FROM data")
    collisions = _candidates(tables, compared, _long_text(tables, profile, compared))
    keyed = sum(column.name in ids.entities for column in compared) >= KEYS
    chance = _Chance(tables, profile, compared, keyed)
    target = profile.target
    few = target is None or _classes(target)
    return RowMatches(
        _repeats(tables, chance), _conflicts(tables, chance) if target else (), _leaks(tables, chance),
        tuple(column.name for column in compared), tuple(sorted(ids.names)), collisions, not few,
    )  # fmt: skip


def _long_text(tables: Tables, profile: TableProfile, compared: Sequence[Column]) -> str:
    """Whether a row has a long text of its own, as SQL."""
    written = [column for column in compared if column.kind == TEXT]
    asked = []
    for column in written:
        words = f"length({column.key}) - length(replace({column.key}, ' ', ''))"
        asked += [f"avg({words})", f"count(*) FILTER (WHERE length({column.key}) >= {LONG})"]
        asked += [f"count(DISTINCT CASE WHEN length({column.key}) >= {LONG} THEN {column.key} END)"]
    answers = tables.ask(asked) if asked and not _many(profile, written) else []
    conditions = []
    for place in range(0, len(answers), 3):
        words, count, distinct = answers[place : place + 3]
        if words is not None and words >= 3 and distinct >= 0.8 * count:
            conditions.append(f"coalesce(length(d.{written[place // 3].key}), 0) >= {LONG}")
    return f"({' OR '.join(conditions)})" if conditions else "FALSE"


def _many(profile: TableProfile, written: Sequence[Column]) -> bool:
    return profile.rows * len(written) > MOST_TEXTS


def _tells(column: ColumnProfiles | None) -> bool:
    return column is not None and any(split.nulls < split.rows for split in column.splits)


def _classes(target: ColumnProfiles) -> bool:
    return target.column.kind != "float" and len(target.counts or range(1000)) <= 100


def _candidates(tables: Tables, compared: Sequence[Column], long_text: str) -> int:
    """Keep `alike`: split_no, row_no, y, whether it has a `long` text, and the group g of each row that is not alone; the number of hash collisions."""
    engine, wide = tables.engine, len(compared) > 300
    engine.keep("groups", "SELECT h, count(*) AS n FROM hashes GROUP BY h HAVING count(*) > 1")
    y = settled(tables.target) if tables.target else "NULL"
    values = ", ".join(f"{_comparable(tables, column)} AS v{i}" for i, column in enumerate(compared))
    picked = f"d.split_no, d.row_no, h.h AS g, {y} AS y, {long_text} AS long_text"
    joined = "data AS d JOIN (SELECT s.* FROM hashes AS s JOIN groups AS r ON s.h = r.h) AS h ON d.split_no = h.split_no AND d.row_no = h.row_no"
    if not engine.rows("SELECT count(*) FROM groups")[0][0]:
        engine.keep("alike", f"SELECT {picked} FROM {joined} WHERE FALSE")
        return 0
    engine.keep("candidates", f"SELECT {picked}, {values} FROM {joined}")
    # Each with the first row of its group: a join goes to disk where memory ends, while many aggregates of a group do not.
    first = "SELECT g AS k, min(split_no * 281474976710656 + row_no) AS m FROM candidates GROUP BY g"
    engine.keep(
        "firsts",
        f"SELECT c.* FROM candidates AS c JOIN ({first}) AS f ON c.g = f.k AND c.split_no * 281474976710656 + c.row_no = f.m",
    )
    differing: list[int] = []
    for start in range(0, len(compared), 300):
        other = " OR ".join(f"c.v{i} IS DISTINCT FROM f.v{i}" for i in range(start, min(start + 300, len(compared))))
        differing += [
            row[0]
            for row in engine.rows(
                f"SELECT DISTINCT c.g FROM candidates AS c JOIN firsts AS f ON c.g = f.g WHERE {other}"
            )
        ]
    if not differing:
        engine.keep("alike", "SELECT split_no, row_no, g, y, long_text FROM candidates")
        return 0
    listed = ", ".join(map(str, differing))
    by = ", ".join(f"v{i}" for i in range(len(compared))) if not wide else "g"
    engine.keep(
        "alike",
        "SELECT split_no, row_no, g, y, long_text FROM (SELECT *, count(*) OVER (PARTITION BY g) AS m FROM ("
        f"SELECT split_no, row_no, y, long_text, 'x' || g AS g FROM candidates WHERE g NOT IN ({listed}) UNION ALL "
        f"SELECT split_no, row_no, y, long_text, min(split_no || '/' || row_no) OVER (PARTITION BY {by}) AS g FROM candidates "
        f"WHERE g IN ({listed})) AS u) AS w WHERE m > 1",
    )
    return len(differing)


def _comparable(tables: Tables, column: Column) -> str:
    key = f"d.{column.key}"
    return tables.dialect.text(key) if column.kind == NESTED else settled(column, key)


class _Chance:
    """Pairs that coincidence makes alike, within a split and across two."""

    def __init__(self, tables: Tables, profile: TableProfile, compared: Sequence[Column], keyed: bool = False) -> None:
        self.tables, self.keyed = tables, keyed
        self.collision = {c.key: _collision(profile.named(c.name)) for c in compared}
        self.compared = compared
        self.shares: dict[int, float] = {}
        self._ready = False

    def _prepare(self) -> None:
        """Hashes of a sample's rows, each with one telling column left out."""
        if self._ready:
            return
        self._ready = True
        tables = self.tables
        telling = sorted((c for c in self.compared if c.kind != NESTED), key=lambda c: self.collision[c.key])
        self.left = [(i, column) for i, column in enumerate(telling[:LEFT_OUT])]
        hashes = ", ".join(
            f"{tables.dialect.row_hash([c for c in self.compared if c is not column])} AS o{i}"
            for i, column in self.left
        )
        parts = []
        for number, name in tables.each_split():
            rows = tables.rows_by_split[name]
            self.shares[number] = min(1.0, tables.fitting(THINNED) / max(rows, 1))
            parts.append(tables.some(number, THINNED))
        union = " UNION ALL ".join(f"({part})" for part in parts)
        whole = tables.dialect.row_hash(list(self.compared))
        tables.engine.keep(
            "left_out", f"SELECT split_no, {whole} AS h{', ' + hashes if hashes else ''} FROM ({union}) AS u"
        )

    def within(self, number: int) -> float:
        """Expected equal pairs in a split."""
        self._prepare()
        pairs = f"coalesce(sum(n * (n - 1) / 2), 0) FROM (SELECT count(*) AS n FROM left_out WHERE split_no = {number} GROUP BY"
        return self._expected(pairs, self.shares[number] ** 2)

    def across(self, one: int, other: int) -> float:
        """Expected equal pairs of one row from each of two splits."""
        self._prepare()
        counts = f"count(*) FILTER (WHERE split_no = {one}) AS a, count(*) FILTER (WHERE split_no = {other}) AS b"
        pairs = f"coalesce(sum(a * b), 0) FROM (SELECT {counts} FROM left_out GROUP BY"
        return self._expected(pairs, self.shares[one] * self.shares[other])

    def _expected(self, pairs: str, share: float) -> float:
        equal = float(self.tables.engine.rows(f"SELECT {pairs} h) AS g")[0][0])
        expected = 0.0
        for i, column in self.left:
            others = float(self.tables.engine.rows(f"SELECT {pairs} o{i}) AS g")[0][0])
            collision = min(self.collision[column.key], 0.99)
            expected = max(expected, (others - equal) * collision / (1 - collision))
        if self.keyed and equal < FEWER * expected:
            return 0.0  # fewer than coincidence makes: a row is named by its ids, and stands once
        return expected / share if share else 0.0


def _collision(column: ColumnProfiles | None) -> float:
    """Chance that two rows have the same value in a column."""
    if column is None:
        return 1.0
    worst = 0.0
    for split in column.splits:
        if split.rows:
            gaps = (split.nulls / split.rows) ** 2
            if split.values:
                worst = max(worst, gaps + sum((count / split.rows) ** 2 for _, count in split.values))
            else:
                worst = max(worst, gaps + 1 / max(split.distinct, 1))
    return worst


def _clear(pairs: int, expected: float) -> bool:
    return pairs > BEYOND * expected + 5 * math.sqrt(expected)


def _repeats(tables: Tables, chance: _Chance) -> tuple[Repeats, ...]:
    found = []
    for number, name in tables.each_split():
        repeats = _repeated(tables, number, name, "TRUE")
        if repeats is None:
            continue
        expected = chance.within(number)
        instead = None
        if not _clear(repeats.pairs, expected):
            instead = _repeated(tables, number, name, "long_text")
            stretch = redelivered(tables, name) if instead is None else None
            instead = Repeats(name, stretch, stretch.count, 0.0, in_order=True) if stretch else instead
        found.append(replace(repeats, by_chance=expected, instead=instead))
    return tuple(found)


def _repeated(tables: Tables, number: int, name: str, where: str) -> Repeats | None:
    y = ", y" if tables.target else ""
    extra, pairs = tables.engine.rows(
        f"SELECT coalesce(sum(n - 1), 0), coalesce(sum(n * (n - 1) / 2), 0) FROM "
        f"(SELECT count(*) AS n FROM alike WHERE split_no = {number} AND {where} GROUP BY g{y}) AS c"
    )[0]
    sql = (
        f"SELECT split_no, row_no FROM (SELECT split_no, row_no, row_number() OVER (PARTITION BY g{y} "
        f"ORDER BY row_no) AS k FROM alike WHERE split_no = {number} AND {where}) AS o WHERE k > 1"
    )
    rows = Rows(int(extra), tables.rows_by_split[name], tables, sql)
    return Repeats(name, rows, int(pairs), 0.0) if extra else None


def _conflicts(tables: Tables, chance: _Chance) -> tuple[Conflicts, ...]:
    found = []
    for number, name in tables.each_split():
        conflicts = _contradicting(tables, number, name, "TRUE")
        if conflicts is None:
            continue
        expected = chance.within(number)
        clear = _clear(conflicts.pairs, expected)
        instead = None if clear else _contradicting(tables, number, name, "long_text")
        found.append(replace(conflicts, by_chance=expected, instead=instead))
    return tuple(found)


def _contradicting(tables: Tables, number: int, name: str, where: str) -> Conflicts | None:
    of_split = (
        f"(SELECT g, y, count(*) AS n FROM alike WHERE split_no = {number} AND {where} AND y IS NOT NULL "
        "GROUP BY g, y) AS c"
    )
    groups, rows, minority, pairs = tables.engine.rows(
        "SELECT count(*), coalesce(sum(s), 0), coalesce(sum(s - m), 0), coalesce(sum((s * s - q) / 2), 0) FROM "
        f"(SELECT g, sum(n) AS s, max(n) AS m, sum(n * n) AS q FROM {of_split} GROUP BY g HAVING count(*) > 1) AS k"
    )[0]
    sql = (
        f"SELECT split_no, row_no FROM alike WHERE split_no = {number} AND {where} AND g IN "
        f"(SELECT g FROM {of_split} GROUP BY g HAVING count(*) > 1)"
    )
    listed = Rows(int(rows), tables.rows_by_split[name], tables, sql)
    return Conflicts(name, listed, int(groups), int(minority), int(pairs), 0.0) if groups else None


def _leaks(tables: Tables, chance: _Chance) -> tuple[Leak, ...]:
    if TRAIN not in tables.splits:
        return ()
    train, found = tables.splits.index(TRAIN), []
    for number, name in tables.each_split():
        leak = _leaked(tables, train, number, name, "TRUE") if number != train else None
        if leak is None:
            continue
        expected = chance.across(train, number)
        clear = _clear(leak.pairs, expected)
        instead = None if clear else _leaked(tables, train, number, name, "long_text")
        found.append(replace(leak, by_chance=expected, instead=instead))
    return tuple(found)


def _leaked(tables: Tables, train: int, number: int, name: str, where: str) -> Leak | None:
    a, b = f"count(*) FILTER (WHERE split_no = {train})", f"count(*) FILTER (WHERE split_no = {number})"
    shared = f"SELECT g, {a} AS a, {b} AS b FROM alike WHERE {where} GROUP BY g HAVING {a} > 0 AND {b} > 0"
    rows, pairs = tables.engine.rows(f"SELECT coalesce(sum(b), 0), coalesce(sum(a * b), 0) FROM ({shared}) AS s")[0]
    if not rows:
        return None
    same = f"SELECT {b} AS b FROM alike WHERE {where} GROUP BY g, y HAVING {a} > 0 AND {b} > 0"
    (same_target,) = tables.engine.rows(f"SELECT coalesce(sum(b), 0) FROM ({same}) AS s")[0]
    sql = f"SELECT split_no, row_no FROM alike WHERE split_no = {number} AND g IN (SELECT g FROM ({shared}) AS s)"
    return Leak(
        TRAIN, name, Rows(int(rows), tables.rows_by_split[name], tables, sql), int(same_target), int(pairs), 0.0
    )
