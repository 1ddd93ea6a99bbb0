"""One split as the engine first sees it: a relation with a row number, before its columns are given types."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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

    def place(self, name: str) -> int | None:
        """The place of a column among `names`."""
        return self._places.get(name)

    def mixed_of(self, name: str) -> tuple[tuple[str, int], ...]:
        """The types of a column's values with counts, where there are several."""
        return self._mixed.get(name, ())

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in reversed(list(enumerate(self.names)))}

    @cached_property
    def _mixed(self) -> dict[str, tuple[tuple[str, int], ...]]:
        return dict(self.mixed)


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
