"""Momentum, betas and eps far from what they are made for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.step_log import GroupRecord, StepLog
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import ChangeSettings


class MomentumLimits(Limits):
    """Thresholds of OPT010."""

    min_steps: int = 8
    momentum: float = 0.99  # averages over 100 steps
    surely: float = 0.995  # from here on the program is put on trial also where its loss falls
    beta2: float = 0.6  # the second moment of a step or two is noise
    eps: float = 0.01  # larger than most gradients' elements, by which Adam then no longer divides
    dampening: float = 0.5
    swing: float = 1.25  # level of a quarter of the steps over the lowest before it: a loss that swings back
    well: float = 0.3  # share by which the loss of a program that trains well falls in the observed steps


@check(
    "OPT010",
    "bad-momentum",
    Severity.WARNING,
    faq=("training/optimizer/incorrect", "tuning/optimizer settings/incorrect"),
)
def bad_momentum(log: OptimizerLog, steps: StepLog, trace: TrainingTrace, limits: MomentumLimits) -> Iterator[Finding]:
    """Momentum, betas, dampening or eps of the optimizer are out of their useful range.

    ## What it measures
    The settings of the first group: momentum or beta1 of at least `momentum`, beta1 above beta2 (swapped), beta2 below
    `beta2`, eps of at least `eps` for optimizers that divide by the gradient's size, dampening above `dampening`.
    Unless the numbers are swapped, programs whose loss falls by `well` are left alone up to `surely`. The trial steps
    with the usual settings.
    ## Why it hurts
    Gradients of hundreds of steps ago still push, the loss swings; or the division that makes Adam Adam is gone, and each
    step is as small as the gradient.
    ## Example
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.999, 0.9))
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.999))
    ```
    ## When it is right
    Momentum of 0.99 with a small rate, betas of (0.5, 0.9) or (0.95, 0.95), and RMSprop with a large eps at a rate that
    was chosen for it train well: they are silent, or the trial clears them.
    ## References
    Kingma and Ba, "Adam" (2015), section 4 (beta1 against beta2); Goh, "Why Momentum Really Works" (2017).
    """
    for optimizer in log.optimizers:
        groups = steps.of(optimizer.index)
        if not groups or optimizer.steps < limits.min_steps:
            continue
        found = _judged(groups[0], _falls_well(trace, optimizer.index, limits), limits)
        if found is None:
            continue
        message, measured, cure, certain = found
        place = optimizer.source_of("momentum", "betas", "betas[0]", "betas[1]", "alpha")
        yield Finding(
            message=f"{message} ({optimizer.kind})",
            location=Location(path=place.path, line=place.line) if place else Location(),
            measured=measured,
            remedy=f"use the usual setting: {cure.describe()}",
            treatment=cure.model_copy(update={"optimizer": optimizer.index}),
            demonstrated=message if certain else None,
        )


_Judged = tuple[str, dict[str, Measure], ChangeSettings, bool]


def _judged(group: GroupRecord, well: bool, limits: MomentumLimits) -> _Judged | None:
    settings, betas = group.settings, group.betas
    momentum, eps = float(settings.get("momentum", 0.0)), float(settings.get("eps", 0.0))
    dampening = float(settings.get("dampening", 0.0))
    if momentum >= 1.0:
        return (
            f"momentum {momentum:g} never forgets a gradient",
            {"momentum": Measure(value=momentum, threshold=1.0)},
            ChangeSettings(momentum=0.9),
            True,
        )
    if momentum >= limits.momentum and (not well or momentum >= limits.surely):
        return (
            f"momentum {momentum:g} adds up the gradients of {1 / (1 - momentum):.0f} steps",
            {"momentum": Measure(value=momentum, threshold=limits.momentum)},
            ChangeSettings(momentum=0.9),
            False,
        )
    if len(betas) == 2:
        first, second = betas
        if first > second and first >= 0.95:
            return (
                f"betas ({first:g}, {second:g}) look swapped: the mean gradient is slower than the mean square",
                {"beta1": Measure(value=first, threshold=second), "beta2": Measure(value=second)},
                ChangeSettings(betas=(0.9, 0.999)),
                first >= 0.99 and second <= 0.95,
            )
        if first >= limits.momentum and (not well or first >= limits.surely):
            return (
                f"beta1 {first:g} averages the gradients of {1 / max(1e-9, 1 - first):.0f} steps",
                {"beta1": Measure(value=first, threshold=limits.momentum)},
                ChangeSettings(betas=(0.9, second)),
                False,
            )
        if second < limits.beta2 and not well:
            return (
                f"beta2 {second:g} forgets the gradient's size within a step or two",
                {"beta2": Measure(value=second, threshold=limits.beta2)},
                ChangeSettings(betas=(first, 0.999)),
                False,
            )
    if eps >= limits.eps and (not well or eps >= 10 * limits.eps):
        return (
            f"eps {eps:g} outweighs the size of the gradients that the step is divided by",
            {"eps": Measure(value=eps, threshold=limits.eps)},
            ChangeSettings(eps=1e-8),
            False,
        )
    if dampening > limits.dampening and not well:
        return (
            f"dampening {dampening:g} takes that share off each gradient",
            {"dampening": Measure(value=dampening, threshold=limits.dampening)},
            ChangeSettings(dampening=0.0),
            False,
        )
    return None


def _falls_well(trace: TrainingTrace, optimizer: int, limits: MomentumLimits) -> bool:
    losses = trace.losses(optimizer)
    first, last = trace.loss_level(optimizer, True), trace.loss_level(optimizer, False)
    if not losses or first is None or last is None or not all(map(math.isfinite, losses)):
        return False
    start = max(losses[0], first)
    quarter = max(1, len(losses) // 4)
    levels = [fmean(losses[at : at + quarter]) for at in range(0, len(losses) - quarter + 1, quarter)]
    swings = any(level > limits.swing * min(levels[:at]) for at, level in enumerate(levels) if at)
    return start - last > limits.well * abs(start) and max(losses[len(losses) // 2 :]) < start and not swings
