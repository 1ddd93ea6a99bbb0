"""Values that stand for a missing one: numbers far from all others, dates at the end of time, words such as N/A."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.table_profile import SHARES, ColumnProfiles, Numbers, TableProfile
from doctor.evidence.table_rows import Rows, rows_where
from doctor.probes import probe
from doctor.tables.columns import TEXT, TIME
from doctor.tables.dialect import literal, settled
from doctor.tables.tables import Tables

# Codes in use for missing numbers; any other number must lie much farther off.
CODES = frozenset(
    sign * value for sign in (1.0, -1.0) for value in (99, 999, 9999, 99999, 999999, 9999999, 88, 888, 8888, 9998, 9997)
) | {-1.0, 32767.0, -32768.0, 2147483647.0, -2147483648.0, 65535.0}
DATES = ("1900-01-01", "1970-01-01", "1753-01-01", "1899-12-30", "1899-12-31", "9999-12-31", "2099-12-31", "0001-01-01")
# Words that say "no value" by themselves, and those that do only beside one of them: "unknown" may be a category.
WORDS = ("?", "??", "na", "n/a", "n.a.", "nan", "null", "-", "--", ".", "#n/a", "#na", "<na>", "(null)", "missing", "nil",
         "#value!", "#div/0!", "tbd", "undefined", "")  # fmt: skip
BESIDE = ("unknown", "not available", "not known", "unspecified", "not specified", "no data", "none given")


@dataclass(frozen=True)
class MissingCode:
    """The values of one column that stand for none. `low` and `high` bound the column's other values.

    `kind` is `number`, `date` or `word`; `counts` are rows by split; `distance` is the empty stretch between the code
    and the others over the others' range (numbers only).
    """

    column: str
    kind: str
    values: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    rows: Rows
    low: float | None = None
    high: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class MissingCodes(Evidence):
    """Disguised missing values, and the columns whose real gaps another column explains (`explained`)."""

    codes: tuple[MissingCode, ...]
    explained: tuple[tuple[str, str], ...] = ()


@probe
def missing_codes(source: DataSource, profile: TableProfile) -> MissingCodes:
    """Scans only the columns that have something to show."""
    tables = source.tables
    found = [*_numbers(tables, profile), *_dates(tables, profile), *_words(tables, profile)]
    return MissingCodes(tuple(found), tuple(_explained(tables, profile)))


def _numbers(tables: Tables, profile: TableProfile) -> list[MissingCode]:
    found = []
    columns = [c for c in profile.columns if c.column.numeric and c.role != "split" and _suspicious(c)]
    for column in columns:
        if column.role == "target" and len(column.counts) <= 100 and column.column.kind == "integer":
            continue
        key, codes = settled(column.column), list[float]()
        low = high = distance = None
        for _ in range(4):
            without = f"{key} NOT IN ({', '.join(map(repr, codes))})" if codes else "TRUE"
            code, others, gap = _extreme(tables, key, without)
            if code is None or others is None:
                break
            codes.append(code)
            low, high, distance = others.minimum, others.maximum, max(distance or 0.0, gap)
        if (
            codes
            and max(codes) <= 0
            and min(codes) >= -1
            and _follows(tables, profile, column, f"{key} = {codes[0]!r}")
        ):
            continue  # no turns while the engine is off
        if codes:
            condition = f"{key} IN ({', '.join(map(repr, codes))})"
            texts = tuple(f"{code:.10g}" for code in codes)
            found.append(_code(tables, column, "number", texts, condition, low, high, distance))
    return found


def _suspicious(column: ColumnProfiles) -> bool:
    """Whether an end of the column's range is a code, or far from the quartiles, or a zero below all others."""
    for split in column.splits:
        numbers = split.numbers
        if numbers is None or numbers.minimum == numbers.maximum:
            continue
        spread = max(numbers.quantiles[4] - numbers.quantiles[2], 1e-12)
        ends = (numbers.minimum, numbers.maximum)
        far = max(numbers.quantiles[2] - numbers.minimum, numbers.maximum - numbers.quantiles[4]) > 8 * spread
        if far or any(end in CODES for end in ends) or (numbers.minimum == 0 and numbers.median > 0):
            return True
    return False


def _extreme(tables: Tables, key: str, where: str) -> tuple[float | None, Numbers | None, float]:
    """The least or greatest value, where it stands for a missing one; what the others are; the gap between."""
    number = f"CAST({key} AS DOUBLE)"
    low, high, filled = tables.ask([f"min({number})", f"max({number})", f"count({key})"], where)
    if low is None or low == high or filled < 30:
        return None, None, 0.0
    for code in (low, high):
        others = f"{where} AND {key} <> {code!r}"
        (count,) = tables.ask([f"count(*) FILTER (WHERE {key} = {code!r})"], where)
        if count < max(3, 0.001 * filled):
            continue
        least, most, distinct, mean, deviation, quantiles = tables.ask(
            [f"min({number})", f"max({number})", tables.dialect.approximate_distinct(key), f"avg({number})",
             f"stddev_pop({number})", tables.dialect.quantiles(number, SHARES)], others,
        )  # fmt: skip
        numbers = Numbers(least, most, mean, deviation, tuple(map(float, quantiles)), 0)
        gap = (least - code if code < least else code - most) / max(most - least, 1e-12)
        if _stands_out(code, numbers, gap, count / filled, distinct):
            return code, numbers, gap
    return None, None, 0.0


def _stands_out(code: float, others: Numbers, gap: float, share: float, distinct: int) -> bool:
    core = max(others.quantiles[6] - others.quantiles[0], 1e-12)
    empty = others.minimum - code if code < others.minimum else code - others.maximum
    if distinct < 8 or share > 0.6:
        return False
    if code == 0.0:
        symmetric = abs(others.quantiles[5] + others.quantiles[1] - 2 * others.median) <= 0.3 * core
        far = others.minimum > 0 and others.median >= 3.5 * others.spread
        return (
            symmetric and far and empty >= 0.3 * (others.median - others.minimum) and share <= 0.35 and distinct >= 20
        )
    if code == -1.0:
        return others.minimum >= 0 and distinct >= 10 and share >= 0.002 and others.maximum >= 10
    if code in CODES and abs(code) >= 99:
        return empty >= 0.5 * core and empty > 3 * others.spread
    return gap > 3.0 and share >= 0.01


def _dates(tables: Tables, profile: TableProfile) -> list[MissingCode]:
    found = []
    for column in profile.columns:
        if column.column.kind != TIME or column.role == "split":
            continue
        day = f"substr({tables.dialect.text(column.column.key)}, 1, 10)"
        listed = ", ".join(literal(date) for date in DATES)
        values = tables.engine.rows(
            f"SELECT {day} AS v, count(*) AS n FROM data WHERE {day} IN ({listed}) GROUP BY {day} ORDER BY n DESC"
        )
        dates = [
            str(value) for value, count in values if count >= max(3, 0.005 * column.rows) and count < 0.6 * column.rows
        ]
        if dates:
            condition = f"{day} IN ({', '.join(map(literal, dates))})"
            found.append(_code(tables, column, "date", tuple(dates), condition))
    return found


def _words(tables: Tables, profile: TableProfile) -> list[MissingCode]:
    found = []
    for column in profile.columns:
        if column.role == "split" or (column.column.kind != TEXT and not column.column.unreadable):
            continue
        raw = f"t{column.column.key[1:]}" if column.column.unreadable else column.column.key
        word = f"lower(trim({raw}))"
        listed = ", ".join(literal(text) for text in (*WORDS, *BESIDE, "none"))
        written = tables.engine.rows(
            f"SELECT {word} AS v, trim({raw}) AS w, count(*) AS n FROM data WHERE {word} IN ({listed}) "
            f"GROUP BY {word}, trim({raw}) ORDER BY n DESC"
        )
        values = [
            (word, sum(n for v, _, n in written if v == word)) for word in dict.fromkeys(v for v, _, _ in written)
        ]
        words = _meant(column, [value for value, _ in values])
        count = sum(number for value, number in values if value in words)
        if words and count >= 3 and 0.002 * column.rows <= count <= 0.9 * column.rows:
            condition = f"{word} IN ({', '.join(literal(value) for value in words)})"
            shown = tuple(f'"{text}"' for value, text, _ in written if value in words)
            found.append(_code(tables, column, "word", shown, condition, value=raw))
    return found


def _meant(column: ColumnProfiles, present: Sequence[str]) -> list[str]:
    """Which of the words found stand for nothing here."""
    if column.column.unreadable:  # among numbers every word does
        return list(present)
    others = [value for value in column.counts if value.strip().lower() not in present]
    hard = [word for word in present if word in WORDS]
    if "na" in hard and others and all(len(value) == 2 and value.isupper() for value in others[:200]):
        hard.remove("na")  # country codes
    if "-" in hard and "+" in column.counts:
        hard.remove("-")
    if "" in hard and (not column.counts or len(column.counts) > 100):
        hard.remove("")  # free text may be left empty
    if not others and column.counts:
        return []
    return [*hard, *(word for word in present if word in BESIDE)] if hard else []


def _code(
    tables: Tables, column: ColumnProfiles, kind: str, values: tuple[str, ...], condition: str,
    low: float | None = None, high: float | None = None, distance: float | None = None, value: str | None = None,
) -> MissingCode:  # fmt: skip
    counted = tables.by_split([f"count(*) FILTER (WHERE {condition})"])
    counts = tuple((split, int(counted[split][0] or 0)) for split in tables.splits)
    total = sum(count for _, count in counts)
    rows = rows_where(tables, condition, total, value=value or column.column.key)
    return MissingCode(column.name, kind, values, counts, rows, low, high, distance)


def _follows(tables: Tables, profile: TableProfile, column: ColumnProfiles, condition: str) -> bool:
    """Whether a condition follows from the value of another column with few."""
    for other in profile.columns:
        if 2 <= len(other.counts) <= 20 and other.name != column.name:
            key = other.column.key
            groups = tables.engine.rows(
                f"SELECT count(*), count(*) FILTER (WHERE {condition}) FROM data WHERE {key} IS NOT NULL GROUP BY {key}"
            )
            shares = [held / count for count, held in groups]
            if all(share < 0.1 or share > 0.9 for share in shares) and max(shares) > 0.9 and min(shares) < 0.1:
                return True
    return False


def _explained(tables: Tables, profile: TableProfile) -> list[tuple[str, str]]:
    """Columns with gaps whose presence follows from the value of another, as a spouse's age from being married."""
    gaps = [c for c in profile.features if 0.05 * c.rows < c.nulls < c.rows][:20]
    known = [c for c in profile.features if 2 <= len(c.counts) <= 20 and c.nulls < 0.01 * c.rows][:20]
    found = []
    for column in gaps:
        for other in known:
            if other.name == column.name:
                continue
            key = other.column.key
            groups = tables.engine.rows(
                f"SELECT {key}, count(*), count({settled(column.column)}) FROM data WHERE {key} IS NOT NULL GROUP BY {key}"
            )
            shares = [1 - filled / count for _, count, filled in groups]
            if len(shares) > 1 and all(share < 0.01 or share > 0.99 for share in shares) and max(shares) > 0.99:
                found.append((column.name, other.name))
                break
    return found
