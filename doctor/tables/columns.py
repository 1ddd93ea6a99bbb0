"""Columns and rows of a table, as every engine shows them."""

from __future__ import annotations

from dataclasses import dataclass

INTEGER, FLOAT, TEXT, BOOLEAN, TIME, NESTED = "integer", "float", "text", "boolean", "time", "nested"
NUMERIC = (INTEGER, FLOAT)

_KINDS = {
    INTEGER: ("TINYINT", "SMALLINT", "INTEGER", "INT", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
              "UBIGINT", "UHUGEINT"),
    FLOAT: ("FLOAT", "DOUBLE", "DECIMAL", "REAL"),
    BOOLEAN: ("BOOLEAN",),
    TIME: ("DATE", "TIMESTAMP", "TIME", "TIMESTAMP_NTZ", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "DATETIME"),
    TEXT: ("VARCHAR", "STRING", "ENUM", "UUID", "CHAR"),
}  # fmt: skip


def without_text(type_name: str) -> bool:
    """Whether values of a nested SQL type hold no text: a list of numbers, or a structure of such."""
    upper = type_name.upper()
    return upper.endswith("]") and not any(
        word in upper for word in ("VARCHAR", "STRING", "STRUCT", "MAP", "UNION", "JSON")
    )


def kind_of(type_name: str) -> str:
    """The kind of an SQL type: `integer`, `float`, `text`, `boolean`, `time`, or `nested` for lists, structs, blobs."""
    upper = type_name.upper()
    if upper.endswith("]") or upper.startswith(("STRUCT", "MAP", "ARRAY", "UNION")):
        return NESTED
    head = upper.partition("(")[0].partition(" ")[0]
    return next((kind for kind, names in _KINDS.items() if head in names), NESTED)


@dataclass(frozen=True)
class Column:
    """One column: its name as the user knows it, its `key` in SQL (`c0`), and what its values are.

    `stored` is the kind as it lies in the source: `text` where numbers are kept as strings. `unreadable` counts the
    values of such a column that are no number, with the commonest of them. `absent` are splits that lack it, `mixed` the
    types of its values with counts, where the source has several (JSON lines, frames of objects). `wordless` are lists and
    structs that hold no text.
    """

    name: str
    key: str
    kind: str
    stored: str
    unreadable: int = 0
    strangers: tuple[tuple[str, int], ...] = ()
    absent: tuple[str, ...] = ()
    mixed: tuple[tuple[str, int], ...] = ()
    wordless: bool = False

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return self.kind in NUMERIC


@dataclass(frozen=True)
class BrokenRow:
    """A record that could not be read: its file, its line (from 1), its row (from 0, the header not counted), and why."""

    file: str
    line: int
    row: int
    reason: str
    text: str = ""
