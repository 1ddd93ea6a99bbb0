"""One split as the engine first sees it: a relation with a row number, before its columns are given types."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.tables.columns import BrokenRow


@dataclass(frozen=True)
class Raw:
    """`relation` has `row_no` and, for each name of `names`, a column `r0`, `r1`, ... of the SQL type in `types`."""

    relation: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    file_rows: tuple[int, ...] = ()
    broken: tuple[BrokenRow, ...] = ()
    notes: tuple[str, ...] = ()
    mixed: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()  # columns of several types, with counts
    lasting: bool = True  # whether reading it again costs no parsing


def distinct_names(names: list[str]) -> list[str]:
    """Names made different where they are not: a, a_1, a_2; an empty one becomes column3."""
    seen: dict[str, int] = {}
    result = []
    for place, name in enumerate(names):
        name = name.strip() or f"column{place}"
        count = seen.get(name, 0)
        seen[name] = count + 1
        result.append(f"{name}_{count}" if count else name)
    return result
