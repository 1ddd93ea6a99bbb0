"""Learning rates out of proportion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean, median

from doctor.evidence.frozen_weights import FrozenWeights
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import SearchLearningRate


class TooHighLimits(Limits):
    """Thresholds of OPT001."""

    min_steps: int = 8
    game_rise: float = 10.0  # `rise` for one of several optimizers, whose losses pull at each other
    update_ratio: float = 0.02  # median |update|/|weights| of a step from which a stalled loss is suspicious
    rise: float = 1.5  # last level of the loss over the first
    peak: float = 2.5  # highest loss over the first, by a program whose largest update ratio was above the limit below
    largest_ratio: float = 0.03
    lost_peak: float = 5.0  # the same for a loss that came down again since: it lost everything at first
    lost_ratio: float = 0.5
    progress: float = 0.05  # a loss that fell by more than this share of its level is making progress
    plateau_steps: int = 40
    plateau_ratio: float = 0.012  # median update ratio of the later half, while the loss stands on a plateau
    plateau_largest: float = 0.1  # of all steps: the weights were thrown about before
    plateau_level: float = 0.4  # of the first loss
    plateau_fall: float = 0.02  # over the later half


class TooLowLimits(Limits):
    """Thresholds of OPT002."""

    min_steps: int = 12
    update_ratio: float = 2e-5  # median |update|/|weights| of a step; healthy fine-tuning lies above 3e-5
    progress: float = 0.02  # share of the loss by which it may have fallen
    # A model that starts from random weights and creeps: put on trial at larger ratios, once there are enough steps.
    creep_steps: int = 40
    creep_ratio: float = 2.5e-4
    creep_progress: float = 0.035


@check(
    "OPT001",
    "lr-too-high",
    Severity.ERROR,
    faq=("tuning/learning rate/incorrect", "tuning/optimizer settings/incorrect"),
    nature=Nature.OUTCOME,
)
def lr_too_high(log: OptimizerLog, trace: TrainingTrace, limits: TooHighLimits) -> Iterator[Finding]:
    """The learning rate throws the parameters about: the loss rises, leaps or stands still under large updates.

    ## What it measures
    The loss over the first and last quarter of the observed steps, its peak, and the median of |update|/|weights|.
    Suspicious are a loss that ends `rise` times above its start, peaks `peak` times above it after steps of more than `largest_ratio`, or has not fallen by
    `progress` while the median update ratio is above `update_ratio`; as a warning, one that stands on a plateau for the
    later half of the run while steps stay above `plateau_ratio`. The trial runs the program at smaller rates.
    ## Why it hurts
    Every step overshoots; the model lands in a flat or saturated region, or diverges to NaN.
    ## Example
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ```
    ## When it is right
    Large rates on small convex problems train well; they make progress and are silent. Losses of GANs and other games
    need not fall: with several optimizers the rule waits for a loss that explodes.
    ## References
    Update ratios near 1e-3 are healthy (Karpathy, "A Recipe for Training Neural Networks", 2019); instability as a loss
    that rises: Google Research, "Deep Learning Tuning Playbook".
    """
    for optimizer in log.optimizers:
        losses = list(trace.losses(optimizer.index))
        if len(losses) < limits.min_steps:
            continue
        finite = [loss for loss in losses if math.isfinite(loss)]
        first = min(finite[0], fmean(finite[:3])) if finite else math.nan
        last = trace.loss_level(optimizer.index, first=False) or math.nan
        ratio = trace.typical_update_ratio(optimizer.index) or 0.0
        game = len([other for other in log.optimizers if other.steps]) > 1
        largest = max([s.update_ratio for s in trace.of(optimizer.index) if s.update_ratio is not None] or [0.0])
        reason = _too_high(finite, len(losses), first, last, ratio, largest, game, limits)
        if not reason and not game and len(finite) == len(losses):
            late = [s.update_ratio for s in trace.of(optimizer.index)[len(losses) // 2 :] if s.update_ratio is not None]
            thrown = largest >= limits.plateau_largest
            reason = _stuck(finite, first, median(late or [0.0]), limits) if thrown else None
            if reason:
                yield _finding(
                    optimizer, reason, first, last, ratio, limits.update_ratio, (0.1, 0.01, 0.001), "lower"
                ).revised(severity=Severity.WARNING)
                continue
        if reason:
            yield _finding(optimizer, reason, first, last, ratio, limits.update_ratio, (0.1, 0.01, 0.001), "lower")


def _too_high(
    finite: list[float],
    count: int,
    first: float,
    last: float,
    ratio: float,
    largest: float,
    game: bool,
    limits: TooHighLimits,
) -> str | None:
    if len(finite) < count and len(finite) >= 2 and (ratio > limits.update_ratio or not math.isfinite(ratio)):
        return f"the loss leaves the finite numbers after {len(finite)} steps"
    if first <= 0 or not math.isfinite(last):
        return None
    peak = max(finite[1:], default=first)
    if last > (limits.game_rise if game else limits.rise) * first and ratio > 1e-3:
        return f"the loss rises from {first:.4g} to {last:.4g}"
    if game:
        return None
    stalled = last > (1 - limits.progress) * first
    leap = limits.peak if last > 0.6 * first else limits.lost_peak
    ratio_of_leap = limits.largest_ratio if last > 0.6 * first else limits.lost_ratio
    if peak > leap * first and largest > ratio_of_leap:
        return f"the loss leaps to {peak:.4g} from {first:.4g}"
    if stalled and ratio > limits.update_ratio:
        return (
            f"the loss stands at {last:.4g} ({first:.4g} at the start) while each step moves the weights by {ratio:.1%}"
        )
    return None


def _stuck(losses: list[float], first: float, ratio: float, limits: TooHighLimits) -> str | None:
    """Whether the loss fell to a plateau, and large steps lead nowhere from there."""
    half = losses[len(losses) // 2 :]
    if len(losses) < limits.plateau_steps or ratio < limits.plateau_ratio or first <= 0:
        return None
    third = len(half) // 3
    before, after = fmean(half[:third]), fmean(half[-third:])
    if after < limits.plateau_level * first or after < (1 - limits.plateau_fall) * before:
        return None
    return f"the loss stands on a plateau at {after:.4g} ({first:.4g} at the start) while each step moves the weights by {ratio:.1%}"


@check("OPT002", "lr-too-low", Severity.WARNING, faq="tuning/learning rate/incorrect", nature=Nature.OUTCOME)
def lr_too_low(
    log: OptimizerLog,
    trace: TrainingTrace,
    frozen: FrozenWeights | None,
    limits: TooLowLimits,
) -> Iterator[Finding]:
    """The learning rate is so small that training stands still.

    ## What it measures
    The median of |update|/|weights| over the observed steps, and by how much the loss fell. Suspicious is a ratio below
    `update_ratio` with a loss that fell by less than `progress` of its level; for models into which no weights were
    loaded, after `creep_steps`, also one below `creep_ratio` with less than `creep_progress`. The trial runs larger rates.
    ## Why it hurts
    The program is healthy and would need thousands of times the steps.
    ## Example
    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    ```
    ## When it is right
    A warm-up is silent while the rate still grows; fine-tuning moves large pretrained weights by little and still
    lowers its loss. A model that has converged already is not improved by the trial's larger rates.
    ## References
    Update ratios near 1e-3 are healthy (Karpathy 2019); DeepDiagnosis (ICSE 2022) alarms at 100 times off.
    """
    for optimizer in log.optimizers:
        steps = trace.of(optimizer.index)
        losses = [loss for loss in trace.losses(optimizer.index) if math.isfinite(loss)]
        if len(losses) < limits.min_steps or not any(step.gradient_norm for step in steps):
            continue
        rates = [step.learning_rate for step in steps]
        if not any(rates) and not optimizer.settings.get("lr"):
            yield _idle(optimizer, len(steps))
            continue
        if rates[-1] > 1.5 * rates[len(rates) // 2]:
            continue  # still warming up
        ratio = median([step.update_ratio for step in steps if step.update_ratio is not None] or [1.0])
        first, last = trace.loss_level(optimizer.index, True) or 0.0, trace.loss_level(optimizer.index, False) or 0.0
        fell = first - last
        stands = 0 < ratio < limits.update_ratio and fell < limits.progress * abs(first)
        fresh = len(losses) >= limits.creep_steps and len(log.optimizers) == 1 and not (frozen and frozen.learnt)
        creeps = fresh and 0 < ratio < limits.creep_ratio and fell < limits.creep_progress * abs(first)
        if stands or creeps:
            reason = f"each step moves the weights by {ratio:.1e} of their size and the loss stays at {last:.4g}"
            yield _finding(optimizer, reason, first, last, ratio, limits.update_ratio, (10, 100, 1000, 10000), "higher")


def _idle(optimizer: OptimizerRecord, steps: int) -> Finding:
    place = optimizer.source_of("lr")
    return Finding(
        severity=Severity.ERROR,
        message=f"the learning rate is 0: {steps} steps have moved nothing ({optimizer.kind})",
        location=Location(path=place.path, line=place.line) if place else Location(),
        measured={"learning_rate": Measure(value=0.0)},
        remedy="give the optimizer a learning rate above 0",
        demonstrated=f"{steps} steps at a rate of 0",
        faults=("lr-too-low", "params-not-updating"),
    )


def _finding(
    optimizer: OptimizerRecord,
    reason: str,
    first: float,
    last: float,
    ratio: float,
    threshold: float,
    factors: tuple[float, ...],
    direction: str,
) -> Finding:
    rate = optimizer.settings.get("lr")
    place = optimizer.source_of("lr")
    shown = f"{rate:g}" if isinstance(rate, float | int) else "?"
    return Finding(
        message=f"{reason} (lr {shown}, {optimizer.kind})",
        location=Location(path=place.path, line=place.line) if place else Location(),
        measured={
            "learning_rate": Measure(value=rate if isinstance(rate, float | int) else None),
            "update_ratio": Measure(value=ratio, threshold=threshold),
            "first_loss": Measure(value=first),
            "last_loss": Measure(value=last),
        },
        remedy=f"use a {direction} learning rate",
        treatment=SearchLearningRate(factors=factors),
    )
