"""Values that stand for a missing one: numbers far from all others, dates at the end of time, words such as N/A."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.extremes import counts_of, others
from doctor.evidence.table_profile import ColumnProfiles, Numbers, TableProfile
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


@dataclass
class _Search:
    """A column whose ends are looked at: the codes found so far, and what lies between them."""

    column: ColumnProfiles
    low: float
    high: float
    filled: int
    codes: tuple[float, ...] = ()
    distance: float = 0.0


def _numbers(tables: Tables, profile: TableProfile) -> list[MissingCode]:
    """The ends of all suspicious columns together, and, where an end is a code, the next one inward."""
    searches = [_search(c) for c in profile.columns if c.column.numeric and c.role != "split" and _suspicious(c)]
    going = searches = [search for search in searches if not _is_class(search.column)]
    for _ in range(4):
        going = _inward(tables, going)
    return [code for search in searches if search.codes and (code := _of_search(tables, profile, search)) is not None]


def _is_class(column: ColumnProfiles) -> bool:
    return column.role == "target" and len(column.counts) <= 100 and column.column.kind == "integer"


def _search(column: ColumnProfiles) -> _Search:
    numbers = [split.numbers for split in column.splits if split.numbers is not None]
    filled = column.rows - column.nulls - sum(split.infinite for split in column.splits)
    return _Search(column, min(n.minimum for n in numbers), max(n.maximum for n in numbers), filled)


def _inward(tables: Tables, searches: Sequence[_Search]) -> list[_Search]:
    """The columns in which the least or the greatest value stands for a missing one, with that added to their codes."""
    ends = [(s, code) for s in searches if s.low != s.high and s.filled >= 30 for code in (s.low, s.high)]
    counts = counts_of(tables, [(search.column, code) for search, code in ends])
    likely = [
        (search, code, count)
        for (search, code), count in zip(ends, counts, strict=True)
        if count >= max(3, 0.001 * search.filled)
    ]
    rest = others(tables, [(search.column, (*search.codes, code)) for search, code, _ in likely])
    found: dict[str, _Search] = {}
    for (search, code, count), besides in zip(likely, rest, strict=True):
        if besides is None or search.column.name in found:
            continue
        least, most = besides.numbers.minimum, besides.numbers.maximum
        gap = (least - code if code < least else code - most) / max(most - least, 1e-12)
        if _stands_out(code, besides.numbers, gap, count / search.filled, besides.distinct):
            search.codes, search.distance = (*search.codes, code), max(search.distance, gap)
            search.low, search.high, search.filled = least, most, besides.filled
            found[search.column.name] = search
    return list(found.values())


def _of_search(tables: Tables, profile: TableProfile, search: _Search) -> MissingCode | None:
    column, codes, key = search.column, search.codes, settled(search.column.column)
    small = max(codes) <= 0 and min(codes) >= -1
    if small and _follows(tables, profile, column, f"{key} = {codes[0]!r}"):
        return None  # no turns while the engine is off
    condition = f"{key} IN ({', '.join(map(repr, codes))})"
    texts = tuple(f"{code:.10g}" for code in codes)
    return _code(tables, column, "number", texts, condition, search.low, search.high, search.distance)


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
    columns = [c for c in profile.columns if c.column.kind == TIME and c.role != "split"]
    days = {c.name: f"substr({tables.dialect.text(c.column.key)}, 1, 10)" for c in columns}
    found = []
    for column, counts in _present(tables, columns, days, DATES):
        dates = [value for value, count in counts if max(3, 0.005 * column.rows) <= count < 0.6 * column.rows]
        if dates:
            condition = f"{days[column.name]} IN ({', '.join(map(literal, dates))})"
            found.append(_code(tables, column, "date", tuple(dates), condition))
    return found


def _words(tables: Tables, profile: TableProfile) -> list[MissingCode]:
    columns = [
        c for c in profile.columns if c.role != "split" and (c.column.kind == TEXT or c.column.unreadable)
        and not _none_of(c)
    ]  # fmt: skip
    raw = {c.name: f"t{c.column.key[1:]}" if c.column.unreadable else c.column.key for c in columns}
    spelt = {c.name: f"lower(trim({raw[c.name]}))" for c in columns}
    found = []
    for column, counts in _present(tables, columns, spelt, _MEANT):
        words = _meant(column, [value for value, _ in counts])
        count = sum(number for value, number in counts if value in words)
        if words and count >= 3 and 0.002 * column.rows <= count <= 0.9 * column.rows:
            condition = f"{spelt[column.name]} IN ({', '.join(literal(value) for value in words)})"
            written = f"trim({raw[column.name]})"
            rows = tables.engine.rows(
                f"SELECT {written} AS w, count(*) AS n FROM data WHERE {condition} GROUP BY {written} ORDER BY n DESC, w"
            )
            shown = tuple(f'"{text}"' for text, _ in rows)
            found.append(_code(tables, column, "word", shown, condition, value=raw[column.name]))
    return found


_MEANT = (*WORDS, *BESIDE, "none")


def _none_of(column: ColumnProfiles) -> bool:
    """Whether the values of a text column are all known, and none of them is such a word."""
    if column.column.unreadable or not all(split.values or split.nulls == split.rows for split in column.splits):
        return False
    return not any(value.strip(" ").lower() in _MEANT for value in column.counts)


def _present(
    tables: Tables, columns: Sequence[ColumnProfiles], said: dict[str, str], listed: Sequence[str]
) -> Iterator[tuple[ColumnProfiles, list[tuple[str, int]]]]:
    """The columns that hold any of the listed texts, and which how often, commonest first: one scan to find them."""
    texts = ", ".join(map(literal, listed))
    counts = tables.ask([f"count(*) FILTER (WHERE {said[c.name]} IN ({texts}))" for c in columns]) if columns else []
    for column, count in zip(columns, counts, strict=True):
        if count:
            text = said[column.name]
            rows = tables.engine.rows(
                f"SELECT {text} AS v, count(*) AS n FROM data WHERE {text} IN ({texts}) GROUP BY {text} ORDER BY n DESC, v"
            )
            yield column, [(str(value), int(number)) for value, number in rows]


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
    named = [c for c in profile.columns if 2 <= len(c.counts) <= 20 and c.name != column.name]
    for other in named[:_EXPLAINING]:
        key = other.column.key
        groups = tables.engine.rows(
            f"SELECT count(*), count(*) FILTER (WHERE {condition}) FROM data WHERE {key} IS NOT NULL GROUP BY {key}"
        )
        shares = [held / count for count, held in groups]
        if all(share < 0.1 or share > 0.9 for share in shares) and max(shares) > 0.9 and min(shares) < 0.1:
            return True
    return False


_EXPLAINING = 100  # columns among which an explanation is looked for


def _explained(tables: Tables, profile: TableProfile) -> list[tuple[str, str]]:
    """Columns with gaps whose presence follows from the value of another, as a spouse's age from being married."""
    gaps = [c for c in profile.features if 0.05 * c.rows < c.nulls < c.rows][:20]
    known = [c for c in profile.features if 2 <= len(c.counts) <= 20 and c.nulls < 0.01 * c.rows][:20]
    found: dict[str, str] = {}
    for other in known:
        open_ = [c for c in gaps if c.name not in found and c.name != other.name]
        if not open_:
            break
        key, filled = other.column.key, ", ".join(f"count({settled(c.column)})" for c in open_)
        groups = tables.engine.rows(f"SELECT count(*), {filled} FROM data WHERE {key} IS NOT NULL GROUP BY {key}")
        for place, column in enumerate(open_, start=1):
            shares = [1 - group[place] / group[0] for group in groups]
            if len(shares) > 1 and all(share < 0.01 or share > 0.99 for share in shares) and max(shares) > 0.99:
                found[column.name] = other.name
    return list(found.items())
