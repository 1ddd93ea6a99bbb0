"""Parameters that are stepped more than once for each gradient."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.step_log import RepeatedStep, StepLog
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import StepOnce


class DoubleLimits(Limits):
    """Thresholds of OPT007."""

    min_repeats: int = 3  # steps on used gradients before it is a habit
    share: float = 0.3  # of the optimizer's steps


@check(
    "OPT007",
    "duplicate-params",
    Severity.WARNING,
    faq="training/optimizer/duplicated",
    faults=("duplicate-params",),
)
def duplicate_params(log: OptimizerLog, steps: StepLog, limits: DoubleLimits) -> Iterator[Finding]:
    """The same gradient moves the same parameter more than once.

    ## What it measures
    Tensors that stand more than once in one optimizer; steps that find gradients which another step has used already,
    with no backward and no clearing between (at least `min_repeats`, and `share` of the steps): of the same optimizer,
    or of two that share tensors.
    ## Why it hurts
    The learning rate is a multiple of what is written, momentum is counted twice, and two optimizers work against each
    other.
    ## Example
    ```python
    optimizer = torch.optim.SGD([*model.parameters(), *model.head.parameters()], lr=0.1)
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ```
    ## When it is right
    Two optimizers that share an encoder and step after a backward of their own are silent, and so are an optimizer that
    wraps another one, phases with one optimizer after the other, LBFGS, and steps without any gradient.
    ## References
    `torch.optim.Optimizer.add_param_group`, which refuses tensors of other groups.
    """
    created = {record.index: record.created for record in log.optimizers}
    made = {record.index: record.steps for record in log.optimizers}
    kinds = {record.index: record.kind for record in log.optimizers}
    for record in steps.groups:
        if record.held_twice:
            tensors = sum(group.tensors for group in record.groups)
            yield _finding(
                f"{record.held_twice} of the {tensors} entries of {kinds.get(record.optimizer, 'the optimizer')} repeat a "
                "tensor: each step moves it twice",
                created.get(record.optimizer),
                {"repeated": Measure(value=record.held_twice, threshold=0, unit="tensors")},
                "give the optimizer each parameter once",
                (),
            )
    for repeat in _habits(steps, made, limits):
        if kinds.get(repeat.optimizer) == "LBFGS":
            continue
        what = "of the same optimizer" if repeat.same else f"of another optimizer ({kinds.get(repeat.other)})"
        yield _finding(
            f"{repeat.count} steps used gradients that a step {what} had used, with no backward between",
            repeat.source or created.get(repeat.optimizer),
            {"repeated_steps": Measure(value=repeat.count, threshold=limits.min_repeats, unit="steps")},
            "call step() once for each backward" if repeat.same else "give each parameter to one optimizer only",
            _related(repeat.earlier, created.get(repeat.optimizer), repeat.same),
        )
        return


def _habits(steps: StepLog, made: dict[int, int], limits: DoubleLimits) -> Iterator[RepeatedStep]:
    for repeat in sorted(steps.repeated, key=lambda found: -found.count):
        if repeat.count >= limits.min_repeats and repeat.count >= limits.share * min(80, made.get(repeat.optimizer, 0)):
            yield repeat


def _finding(
    message: str, place: Source | None, measured: dict[str, Measure], remedy: str, related: tuple[Related, ...]
) -> Finding:
    return Finding(
        message=message,
        location=Location(path=place.path, line=place.line) if place else Location(),
        measured=measured,
        remedy=remedy,
        treatment=StepOnce(),
        related=related,
        demonstrated=message,
    )


def _related(earlier: Source | None, created: Source | None, same: bool) -> tuple[Related, ...]:
    found = []
    if earlier is not None:
        found.append(Related(location=Location(path=earlier.path, line=earlier.line), message="the step before it"))
    if created is not None and not same:
        found.append(
            Related(location=Location(path=created.path, line=created.line), message="the optimizer is made here")
        )
    return tuple(found)
