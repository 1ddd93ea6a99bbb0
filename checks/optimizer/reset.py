"""Optimizers that are made anew and forget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.schedule_log import ScheduleLog
from doctor.evidence.step_log import OptimizerMade, StepLog
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import KeepOptimizer


class ResetLimits(Limits):
    """Thresholds of OPT012."""

    sure: int = 3  # constructions anew at one line; two may be phases
    longest: int = 400  # steps between two, above which the loss of state hardly matters


@check("OPT012", "optimizer-reset", Severity.WARNING, faq="tuning/optimizer settings/duplicated")
def optimizer_reset(steps: StepLog, schedule: ScheduleLog | None, limits: ResetLimits) -> Iterator[Finding]:
    """The optimizer is built again and again over the same parameters, and loses its momentum each time.

    ## What it measures
    Constructions of an optimizer of the same kind over exactly the tensors that its predecessor stepped, at the same
    line, while nothing but these steps changed the tensors; fires from `sure` of them, or from one an epoch. Only for
    optimizers that keep a state. The trial hands the state on.
    ## Why it hurts
    Momentum and Adam's moments begin at zero each time: the first steps are small without momentum, and large and noisy
    with Adam; schedules begin anew, too.
    ## Example
    ```python
    for epoch in range(epochs):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        train_one_epoch(model, optimizer)
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        train_one_epoch(model, optimizer)
    ```
    ## When it is right
    A new optimizer for a new or re-initialised model (folds, ensembles, federated rounds that load weights), for other
    parameters (gradual unfreezing), or plain SGD, which has no state: all silent.
    ## References
    `torch.optim.Optimizer.state`; Kingma and Ba, "Adam" (2015), bias correction.
    """
    again = [made for made in steps.made if made.step > 0 and made.untouched and made.stateful]
    loads = {made.optimizer: made.loads for made in reversed(steps.made)}
    by_line = Counter((made.optimizer, made.source) for made in again)
    for (optimizer, place), count in by_line.most_common(1):
        own = [made for made in again if made.optimizer == optimizer and made.source == place]
        gap = own[-1].step / len(own)
        begun, batches = schedule.training_epochs() if schedule is not None else (0, 0)
        every_epoch = begun >= 2 and batches > 0 and abs(gap - batches) <= 1
        if loads.get(optimizer, 0) != own[-1].loads or gap > limits.longest:
            return
        if count < limits.sure and not every_epoch:
            return
        if len([made for made in steps.made if made.optimizer == optimizer and made.source == place]) < 2:
            return
        yield _finding(own, place, count, gap, every_epoch)


def _finding(own: list[OptimizerMade], place: Source | None, count: int, gap: float, every_epoch: bool) -> Finding:
    when = "each epoch" if every_epoch and gap > 1 else f"after every {gap:.3g} steps" if gap > 1 else "at each step"
    return Finding(
        message=f"{own[0].kind} is made anew {when} ({count} times): its state is lost each time",
        location=Location(path=place.path, line=place.line) if place else Location(),
        severity=Severity.ERROR if gap <= 5 else Severity.WARNING,
        measured={
            "made_anew": Measure(value=count, threshold=0),
            "steps_between": Measure(value=gap, unit="steps"),
        },
        remedy="build the optimizer once, before the loop",
        treatment=KeepOptimizer(),
        demonstrated=f"{count} constructions over tensors that were being trained",
    )
