"""Parameters that have a gradient and do not move."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.gradient_flow import GradientFlow
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.registrations import Registrations
from doctor.evidence.update_log import UpdateLog
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.parameters import GroupRate


class NotUpdatingLimits(Limits):
    """Thresholds of PAR005."""

    min_steps: int = 3  # sampled steps
    share: float = 0.5  # of the parameters, for those that are put back
    least_gradient: float = 1e-9  # root mean square below which Adam's eps swallows a gradient


@check("PAR005", "params-not-updating", Severity.ERROR, faq="tuning/parameters/missing")
def params_not_updating(
    log: UpdateLog,
    optimizers: OptimizerLog | None,
    made: Registrations | None,
    flow: GradientFlow | None,
    limits: NotUpdatingLimits,
) -> Iterator[Finding]:
    """Parameters are in the optimizer, have gradients, and are where they were.

    ## What it measures
    Elements of every parameter before a step, after it, and when the next step begins: whether the step moved those
    that a gradient pulls, and whether they were put back afterwards. And groups whose learning rate is 0 throughout.
    ## Why it hurts
    The program computes everything and learns nothing, or only in part.
    ## Example
    ```python
    optimizer.step()
    model.load_state_dict(initial)
    ```
    ## Use instead
    ```python
    optimizer.step()
    ```
    ## When it is right
    Weights that are clipped, masked or renormalised after a step do not go back to what they were; averaged weights
    that are swapped in for an evaluation are swapped out again. A warm-up starts at rate 0 and leaves it.
    ## References
    torchtest's check that parameters change in one step.
    """
    records = optimizers.optimizers if optimizers else ()
    tested = [p for p in log.parameters if p.moved + p.still >= limits.min_steps]
    back = [p for p in tested if p.moved >= limits.min_steps and p.restored >= p.moved - 1]
    if back and len(back) >= limits.share * len(tested):
        place = made.loads[-1] if made and made.loads else next((r.step_source for r in records if r.step_source), None)
        yield _finding(
            f"{len(back)} parameters are put back to their old values after every step: {back[0].name}",
            place,
            {"restored": Measure(value=back[0].restored, threshold=limits.min_steps, unit="steps")},
            "do not write to parameters between optimizer.step() and the next forward",
        )
        return
    zero = [g for g in log.groups if g.highest == 0.0 and g.with_gradient and g.steps >= 2 * limits.min_steps]
    others = {g.optimizer for g in log.groups if g.highest > 0.0}
    for group in zero:
        if group.optimizer not in others:
            continue
        record = next((r for r in records if r.index == group.optimizer), None)
        finding = _finding(
            f"group {group.group} ({group.elements} elements, {group.names[0] if group.names else ''} ...) has learning "
            f"rate 0 at all {group.steps} steps",
            record.created if record else None,
            {"learning_rate": Measure(value=0.0)},
            "give the group a learning rate above 0, or set requires_grad to False where it is meant to be frozen",
        )
        yield finding.revised(treatment=GroupRate(optimizer=group.optimizer), demonstrated=None)
        return
    names = {name for group in zero for name in group.names}
    still = [p for p in tested if p.pulled >= limits.min_steps and p.still == p.pulled and p.name not in names]
    if still and len(still) >= limits.share * len(tested) and not zero and not _starved(still[0].name, flow, limits):
        yield _finding(
            f"{len(still)} parameters with gradients are not moved by the optimizer's steps: {still[0].name}",
            next((r.step_source for r in records if r.step_source), None),
            {"still": Measure(value=still[0].still, threshold=limits.min_steps, unit="steps")},
            "keep a float32 copy of low-precision parameters, or raise the learning rate: the updates are lost in rounding",
        )


def _starved(name: str, flow: GradientFlow | None, limits: NotUpdatingLimits) -> bool:
    """Whether so little gradient arrives that no step could be seen: the fault is above, not in the step."""
    known = next((p.typical() for p in flow.parameters if p.name == name), None) if flow is not None else None
    return known is not None and known < limits.least_gradient


def _finding(message: str, place: Source | None, measured: dict[str, Measure], cure: str) -> Finding:
    return Finding(
        message=message,
        location=Location(path=place.path if place else None, line=place.line if place else None),
        measured=measured,
        remedy=cure,
        demonstrated="seen at the sampled steps",
    )
