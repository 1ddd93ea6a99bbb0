"""Training loops in which nothing is stepped, or steps follow no backward."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLines
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.program_run import ProgramRun
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import BackwardBeforeStep, StepAfterBackward


class StepLimits(Limits):
    """Thresholds of OPT004."""

    min_backwards: int = 3  # backwards without any step before it is no accumulation in progress
    min_steps: int = 3  # steps without any gradient
    min_discarded: int = 10  # backwards whose gradients are cleared unused
    discarded_share: float = 0.6  # of the backwards: a first of two passes (SAM) clears half of them


@check(
    "OPT004",
    "missing-step",
    Severity.ERROR,
    faq="training/optimizer/missing",
    faults=("missing-step", "missing-backward"),
)
def missing_step(
    run: ProgramRun, log: OptimizerLog, tree: ModuleTree | None, lines: DataLines | None, limits: StepLimits
) -> Iterator[Finding]:
    """Losses are computed, but the parameters are never updated from them.

    ## What it measures
    Calls of backward and of `optimizer.step`, and whether the stepped parameters had a gradient. Fires for an optimizer
    that is never stepped while at least `min_backwards` backwards reach its parameters, none was updated by hand and
    no other optimizer steps them, for one whose gradients are mostly cleared between backward and step, and for one whose steps (at least `min_steps`) never saw a gradient because no backward was called.
    ## Why it hurts
    The loss is that of the initial weights for ever.
    ## Example
    ```python
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    scheduler.step()
    ```
    ## Use instead
    ```python
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    scheduler.step()
    ```
    ## When it is right
    Updates by hand (`p -= lr * p.grad` under `no_grad`) are seen as such and are silent, and so are programs that use
    gradients for something else than training (saliency maps, adversarial inputs): they build no optimizer.
    ## References
    `torch.optim` documentation, "Taking an optimization step".
    """
    told: set[Source | None] = set()
    for optimizer in log.optimizers:
        if optimizer.steps == 0 and log.backwards >= limits.min_backwards and not log.manual_updates:
            if tree is not None and not _reached(tree, optimizer.index):
                continue
            if log.steps and optimizer.backward_source is None:
                continue
            if _stepped_elsewhere(log, optimizer):
                continue
            place = _unreached(log, lines) or optimizer.backward_source or log.backward_source or optimizer.created
            yield Finding(
                message=f"{log.backwards} backwards and no optimizer.step(): no parameter ever changes",
                location=Location(path=place.path, line=place.line) if place else Location(),
                measured={
                    "backwards": Measure(value=log.backwards, threshold=limits.min_backwards),
                    "steps": Measure(value=0),
                },
                remedy="call optimizer.step() after loss.backward()",
                treatment=StepAfterBackward(optimizer=optimizer.index),
                demonstrated=f"no step in {log.backwards} backwards",
            )
        elif optimizer.steps >= limits.min_steps and log.backwards == 0:
            place = optimizer.step_source or optimizer.created
            yield Finding(
                message=f"{optimizer.steps} steps and no backward: no step ever had a gradient",
                location=Location(path=place.path, line=place.line) if place else Location(),
                measured={
                    "steps_without_gradient": Measure(value=optimizer.steps, threshold=limits.min_steps),
                    "backwards": Measure(value=0),
                },
                remedy="call loss.backward() before optimizer.step()",
                treatment=BackwardBeforeStep(optimizer=optimizer.index),
                demonstrated=f"no backward before {optimizer.steps} steps",
            )
        elif _discards(optimizer, limits) and not log.manual_updates and optimizer.step_source not in told:
            told.add(optimizer.step_source)  # one loop may train several models in turn
            yield _thrown_away(optimizer, lines, limits)


def _discards(optimizer: OptimizerRecord, limits: StepLimits) -> bool:
    used = optimizer.discarded + optimizer.steps
    return (
        optimizer.kind != "LBFGS"  # evaluates its closure several times a step
        and optimizer.discarded >= max(limits.min_discarded, limits.discarded_share * used)
        and optimizer.fresh_steps >= 0.9 * optimizer.steps
    )


def _thrown_away(optimizer: OptimizerRecord, lines: DataLines | None, limits: StepLimits) -> Finding:
    """At the clearing where the step waits on purpose (for a number of batches), else at the step outside the loop."""
    step = optimizer.step_source
    plain = any(line.source.line == step.line for line in lines.of("step")) if lines and step else True
    place = step if plain else optimizer.zero_grad_source or step
    every = round((optimizer.discarded + optimizer.steps) / max(1, optimizer.steps))
    return Finding(
        message=f"{optimizer.discarded} of {optimizer.discarded + optimizer.steps} backwards are thrown away: their "
        f"gradients are cleared and optimizer.step() comes once in {every} batches",
        location=Location(path=place.path, line=place.line) if place else Location(),
        faults=("missing-step", "lr-too-low", "accumulation-unscaled"),
        measured={
            "discarded": Measure(value=optimizer.discarded, threshold=limits.min_discarded),
            "steps": Measure(value=optimizer.steps),
        },
        remedy="step after each backward; to accumulate, clear the gradients after the step and not before each backward",
        demonstrated=f"{optimizer.discarded} gradients were cleared before a step",
    )


def _stepped_elsewhere(log: OptimizerLog, idle: OptimizerRecord) -> bool:
    stepped = {name for other in log.optimizers if other.steps for name in other.parameters}
    return bool(idle.parameters) and stepped.issuperset(idle.parameters)


def _unreached(log: OptimizerLog, lines: DataLines | None) -> Source | None:
    """The only step in the text, where none was ever made."""
    steps = lines.of("step") if lines is not None and not log.steps else []
    return steps[0].source if len(steps) == 1 else None


def _reached(tree: ModuleTree, optimizer: int) -> bool:
    return any(p.optimizer == optimizer and p.reached for p in tree.parameters)
