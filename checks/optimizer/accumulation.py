"""Accumulated gradients whose sum is stepped as if it were a mean."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from doctor.evidence.accumulation_log import AccumulationLog
from doctor.evidence.clip_log import ClipLog
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import ScaleGradients

_DIVIDED = ("DivBackward", "MulBackward", "SumBackward")


class AccumulationLimits(Limits):
    """Thresholds of OPT013."""

    min_windows: int = 3
    share: float = 0.8  # of the windows that hold the usual number of backwards
    cleared: float = 0.8  # calls of zero_grad, of all backwards
    undivided: float = 1e-3  # relative difference of loss and criterion that is rounding


@check("OPT013", "accumulation-unscaled", Severity.WARNING, faq="tuning/gradients/duplicated")
def accumulation_unscaled(
    log: OptimizerLog, accumulation: AccumulationLog, clips: ClipLog | None, limits: AccumulationLimits
) -> Iterator[Finding]:
    """Gradients of several batches are summed before one step, and nothing divides by their number.

    ## What it measures
    Backwards between two steps (the same number k in `share` of the windows, from one line), the loss of each over the
    value of its criterion, and whether gradients are scaled before the step. Fires when each loss is the criterion's
    mean itself, or is at least not the result of a division. The trial scales gradients by 1/k.
    ## Why it hurts
    A step is k times as large as that of a batch of the same size: the learning rate is silently multiplied by k.
    ## Example
    ```python
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        loss.backward()
        if (i + 1) % 8 == 0:
            optimizer.step()
            optimizer.zero_grad()
    ```
    ## Use instead
    ```python
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y) / 8
        loss.backward()
        if (i + 1) % 8 == 0:
            optimizer.step()
            optimizer.zero_grad()
    ```
    ## When it is right
    Sums by design (reduction="sum" divided later, one backward a task or a loss term), rates chosen for the sum, and
    Adam, which does not mind the scale: they train no better when scaled, and the trial clears them.
    ## References
    Hugging Face, "Fixing gradient accumulation" (2024).
    """
    counts = [window.backwards for window in accumulation.windows]
    if len(counts) < limits.min_windows:
        return
    usual = round(median(counts))
    alike = [window for window in accumulation.windows if window.backwards == usual]
    if usual < 2 or len(alike) < limits.share * len(counts) or any(window.places > 1 for window in alike):
        return
    drawn = [window.batches for window in alike]
    if max(drawn) and median(drawn) < usual:
        return  # several backwards for one batch: tasks or terms
    if clips is not None and not clips.places and clips.changes and median(clips.changes) < 0.9:
        return  # scaled between backward and step
    known = [ratio for ratio in accumulation.ratios if ratio is not None]
    undivided = bool(known) and all(abs(ratio - 1) < limits.undivided for ratio in known)
    bare = not known and not any(head.startswith(_DIVIDED) for head in accumulation.heads)
    if not (undivided or bare) or "sum" in accumulation.reductions:
        return
    owner = next((record for record in log.optimizers if record.index == accumulation.optimizer), None)
    if owner is not None and owner.zero_grads >= limits.cleared * sum(counts):
        return  # cleared before each backward: the closure of LBFGS is evaluated several times a step
    place = accumulation.lines[0] if accumulation.lines else None
    made = owner.created if owner else None
    yield Finding(
        message=f"the gradients of {usual} backwards are summed for each step, and no loss is divided by {usual}",
        location=Location(path=place.path, line=place.line) if place else Location(),
        measured={
            "backwards_per_step": Measure(value=usual, threshold=1),
            "loss_over_criterion": Measure(value=median(known) if known else None, threshold=1 / usual),
        },
        remedy=f"divide the loss by {usual} before backward",
        treatment=ScaleGradients(factor=1 / usual, optimizer=accumulation.optimizer),
        related=(Related(location=Location(path=made.path, line=made.line), message="the rate of this optimizer"),)
        if made
        else (),
    )
