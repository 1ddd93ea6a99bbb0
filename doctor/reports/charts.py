"""Small charts as inline SVG: loss curves by step, and the response to the learning rate. Colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from doctor.findings import Rate

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 230, 72, 12, 12, 40
_MOST_POINTS = 200
_LOG_FROM = 50.0  # the largest value by the smallest, from which a linear axis would flatten the curve


@dataclass(frozen=True)
class Series:
    """One curve: `name` is its label, `look` its class on the page; values that are not finite become crosses."""

    name: str
    look: str
    values: Sequence[float | None]

    @property
    def points(self) -> list[tuple[float, float | None]]:
        """At most 200 points: the mean of as many stretches of equal length, None where one is not finite."""
        count = min(_MOST_POINTS, len(self.values))
        stretches = [(i * len(self.values) // count, (i + 1) * len(self.values) // count) for i in range(count)]
        return [((first + last - 1) / 2, _mean(self.values[first:last])) for first, last in stretches]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if len(known) == len(values) else None


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` on the pixels from `start` to `end`, logarithmic or not."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, log: bool | None = None) -> Axis:
        """The scale that holds these values; `log` None lets their range decide."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        log = low > 0 and high / low > _LOG_FROM if log is None else log and low > 0
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
        return cls(low, high, start, end, log)

    def at(self, value: float) -> float:
        """Where the value lies, in pixels."""
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (here - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values to label, at most six."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            stride = max(1, math.ceil((last - first + 1) / 5))
            found = [10.0**power for power in range(first, last + 1, stride)]
            return found if len(found) > 1 else [self.low, self.high]
        raw = (self.high - self.low) / 4
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
        first = math.ceil(self.low / step)
        return [step * (first + i) for i in range(6) if step * (first + i) <= self.high + step * 1e-9]


def curves(series: Sequence[Series], label: str, caption: str = "step") -> Markup:
    """The curves over their positions; empty where no value is finite."""
    shown = [(one, one.points) for one in series if len(one.values)]
    known = [value for _, points in shown for _, value in points if value is not None]
    if not known:
        return Markup("")
    longest = max(len(one.values) for one, _ in shown)
    x = Axis(0, max(longest - 1, 1), _LEFT, _WIDTH - _RIGHT)
    y = Axis.over(known, _HEIGHT - _BOTTOM, _TOP)
    parts = [_frame(x, y, caption, f"{label}{', log scale' if y.log else ''}")]
    for one, points in shown:
        parts += _curve(one, points, x, y)
    return _svg(parts, f"{label} by {caption}: {', '.join(one.name for one, _ in shown)}")


def response(rates: Sequence[Rate]) -> Markup:
    """The loss at each learning rate: sane rates filled, the best ringed, where it diverges a cross on top."""
    at = [rate.learning_rate if rate.learning_rate is not None else rate.factor for rate in rates]
    known = [rate.loss for rate in rates if rate.loss is not None and math.isfinite(rate.loss)]
    if not known or min(at) <= 0:
        return Markup("")
    absolute = all(rate.learning_rate is not None for rate in rates)
    x = Axis.over(at, _LEFT + 14, _WIDTH - _RIGHT - 14, log=True)
    y = Axis.over(known, _HEIGHT - _BOTTOM - 8, _TOP + 16)
    caption = "learning rate" if absolute else "factor on the learning rate"
    parts = [_frame(x, y, caption, f"loss{', log scale' if y.log else ''}", at)]
    ordered = sorted(zip(at, rates, strict=True), key=lambda pair: pair[0])
    line = [(x.at(value), y.at(rate.loss)) for value, rate in ordered if rate.loss in known and rate.loss is not None]
    parts.append(f'<polyline class="curve treated" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in line)}"/>')
    for value, rate in ordered:
        if rate.loss is None or not math.isfinite(rate.loss):
            parts.append(_cross(x.at(value), _TOP + 6, f"{value:.3g}: diverges"))
            continue
        look = "best" if rate.best else "sane" if rate.sane else "poor"
        here = f'cx="{x.at(value):.1f}" cy="{y.at(rate.loss):.1f}"'
        parts.append(
            f'<circle class="rate {look}" r="5" {here}><title>{value:.3g}: loss {rate.loss:.4g}</title></circle>'
        )
        word = "best" if rate.best else "now" if rate.factor == 1.0 else ""
        if word:
            parts.append(_text(x.at(value), y.at(rate.loss) - 10, word, "middle", "label"))
    return _svg(parts, f"loss by {caption}")


def _curve(one: Series, points: list[tuple[float, float | None]], x: Axis, y: Axis) -> list[str]:
    parts, stretch = [], []
    for position, value in [*points, (0.0, None)]:
        if value is not None:
            stretch.append(f"{x.at(position):.1f},{y.at(value):.1f}")
        elif stretch:
            drawn = stretch if len(stretch) > 1 else stretch * 2  # round caps make a dot of a single point
            parts.append(f'<polyline class="curve {one.look}" points="{" ".join(drawn)}"/>')
            stretch = []
    broken = [position for position, value in points if value is None]
    if broken:
        parts.append(_cross(x.at(broken[0]), _TOP + 6, f"{one.name}: no finite number from step {broken[0]:.0f} on"))
    return parts


def _frame(x: Axis, y: Axis, across: str, up: str, at: Sequence[float] = ()) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for tick in y.ticks():
        row = f"{y.at(tick):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{row}" y2="{row}"/>')
        parts.append(_text(_LEFT - 6, y.at(tick) + 4, f"{tick:.4g}", "end"))
    last = -math.inf
    for tick in sorted(at) or [tick for tick in x.ticks() if tick == int(tick)]:
        if x.at(tick) - last >= 42:
            last = x.at(tick)
            parts.append(_text(last, bottom + 17, f"{tick:.3g}" if at else f"{tick:.0f}", "middle"))
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, across, "middle", "name"))
    middle = (_TOP + bottom) / 2
    parts.append(f'<g transform="rotate(-90 13 {middle:.0f})">{_text(13, middle, up, "middle", "name")}</g>')
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, look: str = "tick") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _cross(x: float, y: float, title: str) -> str:
    arms = f"M{x - 4:.1f} {y - 4:.1f} l8 8 m0 -8 l-8 8"
    return f'<path class="cross" d="{arms}"><title>{escape(title)}</title></path>'


def _svg(parts: Sequence[str], title: str) -> Markup:
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return Markup(f'<svg role="img" aria-label="{escape(title)}" {view}>{"".join(parts)}</svg>')
