"""Pictures of a data set as inline SVG: bars, histograms, waveforms. Colours come from the page; a series has one everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from doctor.pictures.records import Bars, Histogram, Illustration, Member, RowTable, Series, Tiles
from doctor.reports.charts import Axis
from doctor.reports.places import printable

_ORDER = ("train", "data", "valid", "test")  # the colours of splits, whatever the others of a data set
_BAR, _GAP, _NAMES, _VALUES, _WIDE = 15, 10, 160, 96, 600
_LETTERS = 24  # of a bar's name
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 330, 170, 44, 10, 10, 24
_NONE = Markup("")


@dataclass(frozen=True)
class Drawn:
    """One picture as the page shows it: a chart with its legend, a table, or tiles."""

    kind: str
    title: str
    note: str
    unit: str = ""
    chart: Markup = _NONE
    legend: tuple[tuple[str, str], ...] = ()  # look and name of each series
    table: RowTable | None = None
    tiles: tuple[tuple[tuple[Member, Markup], ...], ...] = ()

    @property
    def paired(self) -> bool:
        """Whether samples are to be compared."""
        return any(len(tile) > 1 for tile in self.tiles)

    @property
    def long(self) -> bool:
        """Whether the samples are texts or sounds, which take some width."""
        return any(member.text is not None or member.wave for tile in self.tiles for member, _ in tile)

    @property
    def grouped(self) -> bool:
        """Whether rows belong together."""
        return self.table is not None and any(len(group) > 1 for group in self.table.groups)


def drawn(illustrations: Sequence[Illustration]) -> dict[int | None, list[Drawn]]:
    """The pictures by the finding that they illustrate; None has those of the whole data set."""
    found: dict[int | None, list[Drawn]] = {}
    for number, illustration in enumerate(illustrations):
        found.setdefault(illustration.finding, []).append(_drawn(illustration.picture, f"p{number}"))
    return found


def _drawn(picture: Bars | Histogram | RowTable | Tiles, name: str) -> Drawn:
    if isinstance(picture, Bars):
        more = f"{picture.more:,} more not shown" if picture.more else ""
        notes = "; ".join(part for part in (picture.note, more) if part)
        return Drawn("bars", picture.title, notes, "", _bars(picture, name), _legend(picture.series))
    if isinstance(picture, Histogram):
        chart = _histogram(picture, name)
        return Drawn("histogram", picture.title, _note(picture), picture.unit, chart, _legend(picture.series))
    if isinstance(picture, RowTable):
        return Drawn("rows", picture.title, picture.note, table=picture)
    tiles = tuple(
        tuple((member, _wave(member, f"{name}-{i}-{j}")) for j, member in enumerate(tile))
        for i, tile in enumerate(picture.tiles)
    )
    return Drawn("tiles", picture.title, picture.note, tiles=tiles)


def _note(picture: Histogram) -> str:
    ends = " and ".join(
        f"{word} {_number(edge)}"
        for given, word, edge in (
            (picture.open_low, "below", picture.edges[1]),
            (picture.open_high, "above", picture.edges[-2]),
        )
        if given
    )
    last = f"the outermost bar holds all values {ends}" if ends else ""
    return "; ".join(part for part in (picture.note, last) if part)


def _legend(series: Sequence[Series]) -> tuple[tuple[str, str], ...]:
    return tuple((_look(series, i), f"{one.name} ({one.count:,})") for i, one in enumerate(series))


def _look(series: Sequence[Series], place: int) -> str:
    """The colour of a series: that of its split, or the next one."""
    names = [one.name for one in series]
    if all(name in _ORDER for name in names):
        return f"s{(0, 0, 2, 1)[_ORDER.index(names[place])]}"
    return f"s{place % 4}"


def _bars(picture: Bars, name: str) -> Markup:
    most = max((share for one in picture.series for share in one.shares), default=0.0) or 1.0
    group = _BAR * len(picture.series) + _GAP
    scale = (_WIDE - _NAMES - _VALUES) / most
    parts = []
    for place, label in enumerate(picture.names):
        top = place * group + _GAP / 2
        middle = top + _BAR * len(picture.series) / 2 + 4
        shown = label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
        parts.append(
            f'<text class="bar-name" x="{_NAMES - 8}" y="{middle:.1f}" text-anchor="end">{_safe(shown)}'
            f"{f'<title>{_safe(label)}</title>' if shown != label else ''}</text>"
        )
        for i, one in enumerate(picture.series):
            y, share = top + i * _BAR, one.shares[place]
            wide = max(share * scale, 1.0 if share else 0.0)
            parts.append(
                f'<rect class="bar {_look(picture.series, i)}" x="{_NAMES}" y="{y:.1f}" width="{wide:.1f}" height="{_BAR - 2}"/>'
            )
            told = f"{_percent(share)} ({round(share * one.count):,})" if share else "0"
            parts.append(f'<text class="told" x="{_NAMES + wide + 5:.1f}" y="{y + _BAR - 4.5:.1f}">{told}</text>')
    heard = "; ".join(
        f"{one.name}: " + ", ".join(f"{n} {_percent(s)}" for n, s in zip(picture.names, one.shares, strict=True))
        for one in picture.series
    )
    return _svg(parts, name, picture.title, heard, _WIDE, len(picture.names) * group + _GAP / 2)


def _histogram(picture: Histogram, name: str) -> Markup:
    most = max((share for one in picture.series for share in one.shares), default=0.0) or 1.0
    edges = picture.edges
    x = Axis(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    y = Axis(0.0, most, _HEIGHT - _BOTTOM, _TOP)
    bottom = _HEIGHT - _BOTTOM
    parts = [f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_TOP}" y2="{_TOP}"/>']
    parts.append(f'<text class="tick" x="{_LEFT - 5}" y="{_TOP + 5}" text-anchor="end">{_percent(most)}</text>')
    for i, one in enumerate(picture.series):
        steps = [f"{x.at(edges[0]):.1f},{bottom}"]
        for left, right, share in zip(edges, edges[1:], one.shares, strict=False):
            steps += [f"{x.at(left):.1f},{y.at(share):.1f}", f"{x.at(right):.1f},{y.at(share):.1f}"]
        steps.append(f"{x.at(edges[-1]):.1f},{bottom}")
        parts.append(f'<polygon class="area {_look(picture.series, i)}" points="{" ".join(steps)}"/>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    ticks = x.ticks()
    last = float("-inf")
    for tick in ticks:
        here = x.at(tick)
        if edges[0] <= tick <= edges[-1] and here - last > 36:
            last = here
            anchor = "end" if here > _WIDTH - _RIGHT - 16 else "middle"
            parts.append(
                f'<text class="tick" x="{here:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{_number(tick)}</text>'
            )
    heard = "; ".join(f"{one.name}: {one.count:,} values, {_middle(picture, one)}" for one in picture.series)
    return _svg(parts, name, f"distribution of {picture.title}", heard, _WIDTH, _HEIGHT)


def _middle(picture: Histogram, one: Series) -> str:
    """The fewest neighbouring bins about the fullest that hold half of the values, in words."""
    if not one.shares:
        return "none"
    first = last = max(range(len(one.shares)), key=lambda i: one.shares[i])
    held = one.shares[first]
    while held < 0.5 and (first > 0 or last < len(one.shares) - 1):
        below = one.shares[first - 1] if first > 0 else -1.0
        above = one.shares[last + 1] if last < len(one.shares) - 1 else -1.0
        first, last = (first - 1, last) if below >= above else (first, last + 1)
        held += max(below, above)
    return f"{_percent(held)} of them between {_number(picture.edges[first])} and {_number(picture.edges[last + 1])}"


def _wave(member: Member, name: str) -> Markup:
    if not member.wave:
        return _NONE
    wide, high = 220, 48
    step = wide / len(member.wave)
    loudest = max(max(abs(low), abs(top)) for low, top in member.wave)
    scale = (high / 2 - 1) / max(loudest, 0.05)
    upper = [f"{i * step:.1f},{high / 2 - top * scale:.1f}" for i, (_, top) in enumerate(member.wave)]
    lower = [f"{i * step:.1f},{high / 2 - low * scale + 0.6:.1f}" for i, (low, _) in enumerate(member.wave)]
    parts = [
        f'<line class="grid" x1="0" x2="{wide}" y1="{high / 2:.0f}" y2="{high / 2:.0f}"/>',
        f'<polygon class="wave" points="{" ".join([*upper, *reversed(lower)])}"/>',
    ]
    return _svg(parts, name, f"waveform of {member.name}", f"largest value {loudest:.2g} of full scale", wide, high)


def _svg(parts: Iterable[str], name: str, title: str, heard: str, width: float, height: float) -> Markup:
    head = f'<title id="{name}-t">{_safe(title)}</title><desc id="{name}-d">{_safe(heard)}</desc>'
    labels = f'role="img" aria-labelledby="{name}-t {name}-d"'
    return Markup(f'<svg {labels} viewBox="0 0 {width:.0f} {height:.0f}">{head}{"".join(parts)}</svg>')


def _safe(text: str) -> str:
    return str(escape(printable(text)))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) and abs(value) < 1e7 else f"{value:.4g}"
