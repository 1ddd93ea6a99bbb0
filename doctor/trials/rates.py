"""The learning rate's response: how the program trains over a grid of multiples of its own rate."""

from __future__ import annotations

import math
from statistics import fmean

from doctor.findings import Rate
from doctor.trials import statistics
from doctor.trials.arms import Arms, Treatments, aligned
from doctor.trials.treatments import ScaleLearningRate, SearchLearningRate

_FINER = (1 / 3, 3.0)  # around the best decade
_SANE = 0.25  # share of the best arm's progress that a sane rate may miss


def response(arms: Arms, base: Treatments, search: SearchLearningRate, rate: float | None) -> tuple[Rate, ...]:
    """Loss levels over the grid and between its best neighbours, by rising rate; the control is among them."""
    factors = [*search.factors]
    coarse = _levels(arms, base, factors)
    best = min(coarse, key=lambda factor: coarse[factor], default=1.0)
    finer = [best * step for step in _FINER if math.isfinite(coarse.get(best, math.inf))]
    levels = {**coarse, **_levels(arms, base, [factor for factor in finer if factor not in coarse])}
    control = arms.get([(base, 0)])[0]
    levels[1.0] = _level(control.curve)
    start = min(control.curve[:2]) if len(control.curve) >= 2 else math.inf  # the second may be thrown off already
    lowest = min(levels.values())
    limit = lowest + _SANE * max(start - lowest, 0.0)
    return tuple(
        Rate(
            factor=factor,
            learning_rate=None if rate is None else rate * factor,
            loss=level if math.isfinite(level) else None,
            sane=level <= limit,
            best=level == lowest,
        )
        for factor, level in sorted(levels.items())
    )


def suggestion(rates: tuple[Rate, ...]) -> str:
    """The best rate and the sane range, in words."""
    best = next(rate for rate in rates if rate.best)
    if best.learning_rate is None:
        return f"learning rate x {best.factor:g}"
    sane = [rate.learning_rate for rate in rates if rate.sane and rate.learning_rate is not None]
    return f"lr {best.learning_rate:.3g} (sane range {min(sane):.3g} to {max(sane):.3g})"


def _levels(arms: Arms, base: Treatments, factors: list[float]) -> dict[float, float]:
    control = arms.get([(base, 0)])[0]
    found = arms.get([((*base, ScaleLearningRate(factor=factor)), 0) for factor in factors])
    levels = {}
    for factor, arm in zip(factors, found, strict=True):
        comparison = statistics.compare(*aligned(control, arm))
        levels[factor] = comparison.treated if comparison is not None else math.inf
    return levels


def _level(curve: tuple[float, ...]) -> float:
    tail = curve[-max(3, len(curve) // 3) :]
    return fmean(tail) if tail and all(map(math.isfinite, tail)) else math.inf
