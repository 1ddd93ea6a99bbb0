"""The statistic of a training trial, and the verdict that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from doctor.findings import Verdict

STATISTIC = "mean loss over the last third of the steps, treated against control, same seed and batches"
WORST_QUARTER = "mean of the worst quarter of the losses in the second half, treated against control, same seed"

_LEAST_GAIN = 0.15  # share of the treated arm's progress that the control misses
_LEAST_REDUCTION = 0.02  # of the control's own loss
_ERRORS = 2.0  # standard errors of the paired differences
_ROOF = 2.0  # how far above its start a loss still counts, in units of the treated arm's progress or of the start


@dataclass(frozen=True)
class Comparison:
    """Control against treated at one seed: the two levels, and `gain`, the share of the treated arm's progress that
    the control misses (1: the control makes none; negative: the control is better).
    """

    control: float
    treated: float
    gain: float
    significant: bool

    @property
    def better(self) -> bool:
        """Whether the treated arm trains clearly better."""
        return self.significant and self.gain >= _LEAST_GAIN

    @property
    def no_better(self) -> bool:
        """Whether the treated arm trains no better at all."""
        return self.gain < 0.03

    @property
    def worse(self) -> bool:
        """Whether the cure does harm: no further seed is needed to tell that it is none."""
        return self.gain < -0.03


def compare(control: Sequence[float], treated: Sequence[float], worst_quarter: bool = False) -> Comparison | None:
    """Compare two loss curves step by step; None when there is too little of them.

    A loss that is NaN or infinite, or a curve that ends early, counts as infinitely bad from there on.
    """
    count = max(len(control), len(treated))
    if count < 4 or len(treated) < 4:
        return None
    tail = max(3, count // 2 if worst_quarter else count // 3)
    ours, theirs = list(control[-tail:]), list(treated[-tail:])
    if not all(map(math.isfinite, theirs)):
        return Comparison(_level(ours), math.inf, -1.0, False)
    level = fmean(theirs)
    start = fmean(treated[:2])
    if not ours or not all(map(math.isfinite, ours)) or len(control) < 0.8 * len(treated):
        return Comparison(math.inf, level, 1.0, level < start or math.isclose(level, start, rel_tol=0.2))
    if worst_quarter:
        quarter = max(1, tail // 4)
        return _judged(fmean(sorted(ours)[-quarter:]), fmean(sorted(theirs)[-quarter:]), start, 0.0)
    size = min(len(ours), len(theirs))
    # An arm that explodes is bad at every step; how far it leaps from one to the next says nothing more.
    roof = start + _ROOF * max(start - level, abs(start))
    differences = [min(a, roof) - min(b, roof) for a, b in zip(ours[-size:], theirs[-size:], strict=True)]
    error = stdev(differences) / math.sqrt(size) if size > 1 else math.inf
    return _judged(fmean(ours), level, start, error, fmean(differences))


def _judged(control: float, treated: float, start: float, error: float, capped: float | None = None) -> Comparison:
    difference = control - treated
    progress = max(start - treated, abs(difference), 1e-12)
    gain = difference / progress
    steady = difference if capped is None else capped
    significant = steady > _ERRORS * error and difference > _LEAST_REDUCTION * abs(control)
    return Comparison(control, treated, gain, significant)


def verdict(comparisons: Sequence[Comparison]) -> Verdict:
    """Confirmed when every seed agrees that the treated arm is clearly better, refuted when none sees it better."""
    if not comparisons:
        return Verdict.INCONCLUSIVE
    if all(comparison.better for comparison in comparisons):
        return Verdict.CONFIRMED
    if all(comparison.no_better for comparison in comparisons):
        return Verdict.REFUTED
    return Verdict.INCONCLUSIVE


def _level(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if len(finite) == len(values) and finite else math.inf
