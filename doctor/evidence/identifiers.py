"""Columns that only name their rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.table_profile import ColumnProfiles, TableProfile
from doctor.probes import probe

UNIQUE = 0.9  # distinct values over rows; copied rows repeat their id
MIN_ROWS = 20
_NAMES = re.compile(
    r"[a-z](ID|Id)$|(^|[_\s.-])(id|uuid|guid|index|idx|key|rowid|row|serial|nr|no|record|hash)$|^unnamed: ?\d+$"
)
_WORDS = ("paid", "bid", "acid", "fluid", "solid", "void", "grid", "mid", "rapid", "humid", "valid", "covid", "steroid")
_CODE = r"^[A-Za-z]{0,8}[-_#]?[0-9]{2,}$|^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F-]{4,28}$"


@dataclass(frozen=True)
class Identifier:
    """One such column: `why` is `name`, `sequence` (consecutive whole numbers) or `code` (unique codes)."""

    name: str
    why: str
    distinct: int
    rows: int


@dataclass(frozen=True)
class Identifiers(Evidence):
    """The columns that name rows, and entity columns, whose name says id but whose values repeat."""

    columns: tuple[Identifier, ...]
    entities: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Their names."""
        return frozenset(column.name for column in self.columns)


def named_like_id(name: str) -> bool:
    """Whether a column's name says that it is an identifier: `id`, `patient_id`, `userId`, `pid`, `Unnamed: 0`."""
    lower = name.lower()
    return bool(_NAMES.search(name) or _NAMES.search(lower)) or (lower.endswith("id") and not lower.endswith(_WORDS))


@probe
def identifiers(source: DataSource, profile: TableProfile) -> Identifiers:
    """By uniqueness and name, by being consecutive, or by being unique codes."""
    tables = source.tables
    found, entities, unique = [], [], []
    for column in profile.features:
        if column.column.kind not in ("integer", "text"):
            continue
        filled = column.rows - column.nulls
        distinct = sum(split.distinct for split in column.splits)
        if filled < MIN_ROWS or filled < 0.9 * column.rows:
            continue
        if distinct < UNIQUE * filled:
            if named_like_id(column.name) and distinct > 20:
                entities.append(column.name)
            continue
        why = "name" if named_like_id(column.name) else ""
        if not why and column.column.kind == "integer" and _consecutive(column):
            why = "sequence"
        unique.append((column, why, distinct, filled))
    texts = [column.column.key for column, why, *_ in unique if not why and column.column.kind == "text"]
    matches = [f"count(*) FILTER (WHERE {tables.dialect.matches(key, _CODE)})" for key in texts]
    codes = dict(zip(texts, tables.ask(matches), strict=True)) if texts else {}
    for column, why, distinct, filled in unique:
        why = why or ("code" if codes.get(column.column.key, 0) >= 0.95 * filled else "")
        if why:
            found.append(Identifier(column.name, why, distinct, filled))
    return Identifiers(tuple(found), tuple(entities))


def _consecutive(column: ColumnProfiles) -> bool:
    """Whether the values of all splits together fill their range."""
    numbers = [split.numbers for split in column.splits if split.numbers is not None]
    if not numbers:
        return False
    low, high = min(n.minimum for n in numbers), max(n.maximum for n in numbers)
    within = [(n.maximum - n.minimum + 1) <= 1.1 * s.rows for n, s in zip(numbers, column.splits, strict=False)]
    return high - low + 1 <= 1.1 * column.rows or all(within)
