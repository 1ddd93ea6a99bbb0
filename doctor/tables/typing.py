"""What the columns of a data set hold: kinds by content, numbers that are kept as text, one type over all splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from doctor.tables.columns import FLOAT, INTEGER, NESTED, NUMERIC, TEXT, TIME, Column, kind_of, without_text
from doctor.tables.dialect import literal
from doctor.tables.raw import Raw
from doctor.tables.tables import Engine

# A text column is one of numbers when so many of its values are: enough that the others are the strangers.
NUMBERS = 0.8
# Texts that stand for no value; a column is one of numbers, too, when nothing else stands between them.
BLANKS = ("", "?", "na", "n/a", "nan", "null", "none", "-", "--", ".", "#n/a", "missing", "<na>", "(null)", "unknown")
PROBED = 50_000  # rows that show whether a text column of a typed source may hold numbers at all


def typed(
    engine: Engine, raws: Sequence[Raw], names: Sequence[str], splits: Sequence[str], target: str | None
) -> tuple[tuple[Column, ...], list[str]]:
    """The columns, and for each split the SELECT that gives them: split_no, row_no, c0, c1, ... (and, as t3, the text of
    a column c3 of numbers where some are none).
    """
    columns = []
    for place, name in enumerate(names):
        found = [(raw, at) for raw in raws if (at := raw.place(name)) is not None]
        kinds = {kind_of(raw.types[at]) for raw, at in found}
        absent = tuple(split for split, raw in zip(splits, raws, strict=True) if raw.place(name) is None)
        kind = _joint(kinds)
        mixed: dict[str, int] = {}
        for raw, _ in found:
            for type_name, count in raw.mixed_of(name):
                mixed[type_name] = mixed.get(type_name, 0) + count
        wordless = kind == NESTED and all(without_text(raw.types[at]) for raw, at in found)
        columns.append(
            Column(name, f"c{place}", kind, kind, absent=absent, mixed=tuple(mixed.items()), wordless=wordless)
        )
    columns = _refined(engine, raws, columns)
    return tuple(columns), [_select(engine, number, raw, columns) for number, raw in enumerate(raws)]


def _joint(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    return FLOAT if kinds <= set(NUMERIC) else NESTED if NESTED in kinds else TEXT


def _refined(engine: Engine, raws: Sequence[Raw], columns: list[Column]) -> list[Column]:
    """Text columns whose values are numbers or times, told by counting."""
    texts = [column for column in columns if column.kind == TEXT]
    if all(raw.lasting for raw in raws) and texts:
        probed = _counts(engine, raws, texts, PROBED)
        texts = [column for column, (filled, numbers, _, times, _) in zip(texts, probed, strict=True)
                 if filled and (numbers >= 0.3 * filled or times >= 0.3 * filled)]  # fmt: skip
    counted = dict(zip([column.key for column in texts], _counts(engine, raws, texts, None), strict=True))
    return [_by_counts(engine, raws, column, counted.get(column.key)) for column in columns]


def _counts(engine: Engine, raws: Sequence[Raw], columns: list[Column], limit: int | None) -> list[list[int]]:
    """Of each column: values that are there, numbers, whole ones, times, and numbers with leading zeros."""
    totals = [[0] * 5 for _ in columns]
    for raw in raws:
        aggregates, places = [], []
        for place, column in enumerate(columns):
            if raw.place(column.name) is None:
                continue
            text = engine.dialect.text(f"r{raw.place(column.name)}")
            number = engine.dialect.number(text)
            aggregates += [
                f"count({text})", f"count({number})", f"count({engine.dialect.whole(text)})",
                f"count({engine.dialect.time(text)})",
                f"count(*) FILTER (WHERE {engine.dialect.matches(text, '^0[0-9]+$')})",
            ]  # fmt: skip
            places.append(place)
        source = f"(SELECT * FROM {raw.relation} LIMIT {limit}) AS s" if limit else raw.relation
        for start in range(0, len(places), 80):
            part = aggregates[5 * start : 5 * (start + 80)]
            found = engine.rows(f"SELECT {', '.join(f'{sql} AS a{i}' for i, sql in enumerate(part))} FROM {source}")[0]
            for offset, place in enumerate(places[start : start + 80]):
                for which in range(5):
                    totals[place][which] += found[5 * offset + which]
    return totals


def _by_counts(engine: Engine, raws: Sequence[Raw], column: Column, counts: list[int] | None) -> Column:
    if counts is None or not counts[0]:
        return column
    filled, numbers, whole, times, zeros = counts
    if zeros > 0.01 * filled:  # codes such as 01067
        return column
    strangers: tuple[tuple[str, int], ...] = ()
    if numbers < filled:
        if times >= 0.99 * filled:
            return replace(column, kind=TIME)
        if numbers < 0.3 * filled:
            return column
        strangers = _strangers(engine, raws, column)
        blank = sum(count for value, count in strangers if value.strip().lower() in BLANKS)
        if numbers < NUMBERS * filled and numbers + blank < filled:
            return column
    kind = INTEGER if whole == numbers else FLOAT
    return replace(column, kind=kind, unreadable=filled - numbers, strangers=strangers)


def _strangers(engine: Engine, raws: Sequence[Raw], column: Column) -> tuple[tuple[str, int], ...]:
    parts = []
    for raw in raws:
        if column.name in raw.names:
            text = engine.dialect.text(f"r{raw.names.index(column.name)}")
            parts.append(
                f"SELECT {text} AS v FROM {raw.relation} WHERE {text} IS NOT NULL AND {engine.dialect.number(text)} IS NULL"
            )
    union = " UNION ALL ".join(parts)
    return tuple(engine.rows(f"SELECT v, count(*) AS n FROM ({union}) AS u GROUP BY v ORDER BY n DESC, v LIMIT 50"))


def _select(engine: Engine, number: int, raw: Raw, columns: list[Column]) -> str:
    picked = [f"{number} AS split_no", "row_no"]
    for column in columns:
        place = raw.place(column.name)
        own = "NULL" if place is None else f"r{place}"
        picked.append(f"{_cast(engine, own, column, None if place is None else raw.types[place])} AS {column.key}")
        if column.unreadable:
            picked.append(f"{engine.dialect.text(own)} AS t{column.key[1:]}")
    return f"SELECT {', '.join(picked)} FROM {raw.relation}"


def _cast(engine: Engine, own: str, column: Column, type_name: str | None) -> str:
    stored = kind_of(type_name) if type_name is not None else TEXT
    text = engine.dialect.text(own)
    if column.kind == INTEGER and stored == TEXT:
        return engine.dialect.whole(text)
    if column.kind == FLOAT:
        return engine.dialect.number(text) if stored == TEXT else f"CAST({own} AS DOUBLE)"
    if column.kind == TIME and stored == TEXT:
        return engine.dialect.time(text)
    if column.kind == TEXT and own != "NULL":
        return text
    return own if own != "NULL" else engine.dialect.nothing(column.kind)


def blank_list() -> str:
    """The blanks as an SQL list, to be compared with a trimmed text in small letters."""
    return ", ".join(literal(text) for text in BLANKS)
