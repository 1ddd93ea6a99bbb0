"""Gradients that survive into the next accumulation window."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.optimizer_log import OptimizerLog
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import ClearGradients


class ZeroGradLimits(Limits):
    """Thresholds of OPT003."""

    min_steps: int = 3  # steps in a row before it is a habit and not a first batch
    carried_share: float = 0.9  # share of the parameters that still hold the last window's gradient


@check("OPT003", "missing-zero-grad", Severity.ERROR, faq=("training/optimizer/missing", "tuning/gradients/duplicated"))
def missing_zero_grad(log: OptimizerLog, limits: ZeroGradLimits) -> Iterator[Finding]:
    """Gradients of earlier batches are added to those of the current one.

    ## What it measures
    Before every backward, which of the gradients that an optimizer's last step used are still in place. A step counts
    when at least `carried_share` of them were never cleared since; the rule fires from `min_steps` such steps in a row.
    ## Why it hurts
    Each step then applies the sum over all batches so far: it grows without bound and points backwards in time.
    ## Example
    ```python
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    ```
    ## Use instead
    ```python
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    ```
    ## When it is right
    Accumulating over k batches before one step is silent: the window ends with the step. So are gradients that
    another loss left behind and that are cleared before the optimizer's own backward, as in GANs.
    ## References
    `torch.optim.Optimizer.zero_grad`; TrainCheck (OSDI 2025) finds the same fault from a reference run.
    """
    for optimizer in log.optimizers:
        if optimizer.kind == "LBFGS":
            continue
        run = optimizer.longest_carried_run(limits.carried_share)
        if run < limits.min_steps or run < 0.5 * len(optimizer.carried):
            continue
        place = optimizer.backward_source or optimizer.step_source
        yield Finding(
            message=f"{run} steps in a row began with the previous step's gradients still in place",
            location=Location(path=place.path, line=place.line) if place else Location(),
            measured={
                "carried_steps": Measure(value=run, threshold=limits.min_steps, unit="steps"),
                "steps": Measure(value=optimizer.steps),
            },
            demonstrated=f"{run} steps used gradients of earlier batches",
            remedy="call optimizer.zero_grad() before loss.backward()",
            treatment=ClearGradients(optimizer=optimizer.index),
        )
