"""Personal data and secrets in the texts of a table: found by pattern, kept where a checksum holds, shown masked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.table_profile import TableProfile
from doctor.evidence.table_rows import Row, Rows
from doctor.probes import probe
from doctor.tables.columns import NESTED, TEXT
from doctor.tables.tables import Tables

PERSONAL, SECRET = "personal", "secret"


def luhn(digits: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 if place % 2 else 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def card(text: str) -> bool:
    """A payment card: 13 to 19 digits, a known issuer's first digits, and the check digit."""
    digits = re.sub(r"\D", "", text)
    issuer = digits[:1] in "3456" and not digits.startswith(("30000", "0"))
    return 13 <= len(digits) <= 19 and issuer and len(set(digits)) > 1 and luhn(digits)


def iban(text: str) -> bool:
    """An account number: the remainder by 97 is 1 (ISO 13616)."""
    compact = re.sub(r"\s", "", text).upper()
    if not 15 <= len(compact) <= 34:
        return False
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(sign, 36)) for sign in moved)) % 97 == 1


def social_security(text: str) -> bool:
    """A US social security number: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def phone(text: str) -> bool:
    """Seven to fifteen digits (E.164), with a sign that it is a phone number: +, brackets, or separated groups."""
    digits = re.sub(r"\D", "", text)
    return 9 <= len(digits) <= 15 and len(set(digits)) > 3


def address(text: str) -> bool:
    """An e-mail address: no file name, and none that says that it is an example (`user@example.com`)."""
    name, _, host = text.lower().rpartition("@")
    example = host.startswith("example.") or host.endswith((".example", ".invalid", ".test"))
    return not (example and name in _NOBODY) and not host.endswith((".png", ".jpg", ".local"))


_NOBODY = frozenset(
    ("user", "username", "name", "your.name", "yourname", "you", "me", "someone", "somebody", "nobody", "test", "info",
     "email", "example", "foo", "bar", "admin", "support", "contact", "help", "noreply", "no-reply", "sales", "hello")
)  # fmt: skip


def long_secret(text: str) -> bool:
    """The value beside a word such as api_key has letters and digits in no plain order."""
    value = re.split(r"[:=]\s*['\"]?", text, maxsplit=1)[-1]
    return len(set(value)) >= 10 and any(c.isdigit() for c in value) and any(c.isalpha() for c in value)


@dataclass(frozen=True)
class Pattern:
    """One kind of data: a regular expression for the engine, and what a match must satisfy."""

    kind: str
    group: str
    expression: str
    holds: Callable[[str], bool] = bool


PATTERNS = (
    Pattern("e-mail address", PERSONAL, r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}", address),
    Pattern("phone number", PERSONAL, r"(\+[0-9]{1,3}[ .-]?(\([0-9]{1,4}\)[ .-]?)?[0-9]{1,4}([ .-]?[0-9]{2,4}){2,4})|(\([0-9]{3}\) ?[0-9]{3}-[0-9]{4})|(\b[0-9]{3}-[0-9]{3}-[0-9]{4}\b)", phone),
    Pattern("payment card", PERSONAL, r"\b[3-6][0-9]{3}[ -]?[0-9]{4,6}[ -]?[0-9]{4,5}[ -]?[0-9]{0,4}\b", card),
    Pattern("IBAN", PERSONAL, r"\b[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}( ?[A-Z0-9]{4}){2,7}( ?[A-Z0-9]{1,3})?\b", iban),
    Pattern("US social security number", PERSONAL, r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", social_security),
    Pattern("private key", SECRET, r"-----BEGIN ([A-Z]+ )*PRIVATE KEY"),
    Pattern("AWS access key", SECRET, r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    Pattern("GitHub token", SECRET, r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,})"),
    Pattern("API key", SECRET, r"\b(sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}|AIza[0-9A-Za-z_-]{35}|xox[abprs]-[0-9A-Za-z-]{10,}|sk_live_[0-9A-Za-z]{16,}|glpat-[0-9A-Za-z_-]{20})"),
    Pattern("JSON web token", SECRET, r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    Pattern("password or key", SECRET, r"([Pp]assword|[Pp]asswd|[Aa]pi[_-]?[Kk]ey|[Ss]ecret[_-]?[Kk]ey|[Aa]ccess[_-]?[Tt]oken)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9+/_=.-]{12,}", long_secret),
)  # fmt: skip
# What every pattern needs: an at sign, a long number, or a word or a run of signs as keys have.
LIKELY = r"@[A-Za-z0-9]|[0-9][0-9 .()-]{6,}[0-9]|\([0-9]{3}\)|[A-Z]{2}[0-9]{2}[ A-Z0-9]{8}|PRIVATE KEY|[A-Za-z0-9_-]{20}|[:=]"
AT_ONCE = 200_000  # matching rows that are checked one by one


@dataclass(frozen=True)
class Sensitive:
    """Values of one column that hold one kind of data; `shown` is the first, masked."""

    column: str
    kind: str
    group: str
    rows: Rows
    shown: str


@dataclass(frozen=True)
class TextScan(Evidence):
    """What was found in the `columns` that hold text."""

    found: tuple[Sensitive, ...]
    columns: tuple[str, ...]


class _Numbered(Rows):
    """Rows by number, each with its masked value."""

    def __init__(self, tables: Tables, hits: list[tuple[int, int, str]], of: int) -> None:
        super().__init__(len(hits), of, tables)
        object.__setattr__(self, "hits", hits)

    @property
    def first(self) -> tuple[Row, ...]:
        """The first in order, masked."""
        return tuple(Row(split, row, path, value) for split, path, row, value in self._placed(20))

    def _placed(self, limit: int | None) -> list[tuple[str, str | None, int, str]]:
        tables, placed = self.tables, []
        assert tables is not None
        for number, row, value in self.hits[:limit]:  # type: ignore[attr-defined]
            path, place = tables.place(tables.splits[number], row)
            placed.append((tables.splits[number], path, place, value))
        return placed

    def __iter__(self) -> Iterator[tuple[str, str | None, int]]:
        yield from ((split, path, row) for split, path, row, _ in self._placed(None))


def masked(text: str) -> str:
    """Enough of a value to recognise it, and no more: two signs at each end of a long one."""
    return f"{text[:2]}{'*' * 6}{text[-2:]}" if len(text) >= 10 else "*" * 6


@probe
def text_scan(source: DataSource, profile: TableProfile) -> TextScan:
    """One scan for what may hold any of it, and the patterns on what is left; of few values, on the values."""
    tables = source.tables
    columns = [
        c for c in profile.columns if c.column.kind in (TEXT, NESTED) and c.role != "split" and not c.column.wordless
    ]  # fmt: skip
    if not columns:
        raise Unavailable("no text column")
    found = []
    for column in columns:
        text = tables.dialect.text(column.column.key)
        if column.counts:
            held = [p for p in PATTERNS if any(_match(p, value) for value in column.counts)]
            if not held:
                continue
        suspects = f"scan_{column.column.key}"
        likely = tables.dialect.matches(text, LIKELY)
        tables.engine.keep(suspects, f"SELECT split_no, row_no, {text} AS v FROM data WHERE {likely}")
        counts = tables.ask(
            [f"count(*) FILTER (WHERE {tables.dialect.matches('v', p.expression)})" for p in PATTERNS], of=suspects
        )
        for pattern, count in zip(PATTERNS, counts, strict=True):
            hits = _hits(tables, suspects, pattern) if count else []
            if hits:
                rows = _Numbered(tables, hits, tables.rows)
                found.append(Sensitive(column.name, pattern.kind, pattern.group, rows, hits[0][2]))
    return TextScan(tuple(found), tuple(c.name for c in columns))


def _match(pattern: Pattern, text: str) -> str | None:
    found = (m for m in re.finditer(pattern.expression, text) if not _FRACTION.search(text[: m.start()]))
    return next((m[0] for m in found if pattern.holds(m[0])), None)


_FRACTION = re.compile(r"[0-9]\.$")  # what follows are the decimals of a number


def _hits(tables: Tables, suspects: str, pattern: Pattern) -> list[tuple[int, int, str]]:
    rows = tables.engine.rows(
        f"SELECT split_no, row_no, v FROM {suspects} WHERE {tables.dialect.matches('v', pattern.expression)} "
        f"ORDER BY split_no, row_no LIMIT {AT_ONCE}"
    )
    matches = ((number, row, _match(pattern, value)) for number, row, value in rows)
    return [(number, row, masked(match)) for number, row, match in matches if match is not None]
