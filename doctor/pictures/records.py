"""What is to be drawn, as plain numbers, texts and small encoded pictures: no evidence, no tables, no arrays."""

from __future__ import annotations

from dataclasses import dataclass

MOST_ROWS = 6
MOST_TILES = 6
LONGEST_TEXT = 280  # characters of one text or cell


@dataclass(frozen=True)
class Series:
    """Shares (0 to 1) of one split or class, one a bar; `count` is what they are shares of."""

    name: str
    shares: tuple[float, ...]
    count: int


@dataclass(frozen=True)
class Bars:
    """Shares by name, a group of bars each, one bar a series. `more` names are left out."""

    title: str
    names: tuple[str, ...]
    series: tuple[Series, ...]
    note: str = ""
    more: int = 0


@dataclass(frozen=True)
class Histogram:
    """Shares by bin; `edges` has one number more than there are bins.

    With `open_low` (`open_high`) the first (last) bin also holds everything below (above) it.
    """

    title: str
    edges: tuple[float, ...]
    series: tuple[Series, ...]
    unit: str = ""
    note: str = ""
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True)
class Cell:
    """One value as text; None is a missing one. `marked` is what the finding is about."""

    text: str | None
    marked: bool = False


@dataclass(frozen=True)
class RowTable:
    """Rows of a table as examples; each group of rows belongs together. The first cell of a row is its place."""

    title: str
    heads: tuple[str, ...]
    groups: tuple[tuple[tuple[Cell, ...], ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Member:
    """One sample: an `image` as a data URI, a `wave` as its lowest and highest value by stretch (-1 to 1), or a `text`."""

    name: str
    note: str = ""
    image: str | None = None
    wave: tuple[tuple[float, float], ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class Tiles:
    """Samples as examples; each tile holds one, or two that are to be compared."""

    title: str
    tiles: tuple[tuple[Member, ...], ...]
    note: str = ""


Picture = Bars | Histogram | RowTable | Tiles


@dataclass(frozen=True)
class Illustration:
    """A picture, and the place in the report of the finding that it illustrates (None: the data set as a whole)."""

    picture: Picture
    finding: int | None = None
