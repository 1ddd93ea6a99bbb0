"""Weight decay that outweighs the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.step_log import GroupRecord, StepLog
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import ScaleWeightDecay

_ADAPTIVE = ("Adam", "NAdam", "RAdam", "Adamax")


class WeightDecayLimits(Limits):
    """Thresholds of OPT009."""

    min_steps: int = 12
    shrink: float = 0.2  # what decay alone would take off the weights in the observed steps; usual runs: below 0.03
    outweigh: float = 1.0  # decay over gradient, where the decay is part of the gradient; usual runs: below 0.1
    adaptive: float = 0.05  # coefficient of Adam's L2 penalty; usual ones are 1e-5 to 1e-2
    felt: float = 0.1  # decay over gradient from which that is suspicious
    least: float = 5e-3  # smaller coefficients outweigh only gradients that are gone


@check("OPT009", "excess-weight-decay", Severity.WARNING, faq="tuning/optimizer settings/incorrect")
def excess_weight_decay(
    log: OptimizerLog, steps: StepLog, trace: TrainingTrace, limits: WeightDecayLimits
) -> Iterator[Finding]:
    """Weight decay pulls the parameters to 0 faster than the loss can form them.

    ## What it measures
    What decay alone takes off the weights over the observed steps, 1 - exp(-sum lr * decay / (1 - momentum)), and for
    optimizers that add the decay to the gradient, decay * |weights| over |gradient|. Suspicious from `shrink`, from
    `outweigh`, and for Adam with a coefficient from `adaptive` and a ratio from `felt`. The trial runs without decay.
    ## Why it hurts
    The weights shrink whatever the data say, and the outputs become constant.
    ## Example
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1.0)
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    ```
    ## When it is right
    AdamW with decay of 0.01 to 0.3 at its usual rates takes little per step and is silent. Models whose gradient has
    become small because they are done are put on trial and lose nothing by their decay.
    ## References
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
    """
    for optimizer in log.optimizers:
        own = trace.of(optimizer.index)
        groups = [group for group in steps.of(optimizer.index) if group.settings.get("weight_decay", 0.0) > 0]
        if len(own) < limits.min_steps or not groups:
            continue
        group = max(groups, key=lambda one: one.norm)
        every = steps.of(optimizer.index)
        everything, tensors = math.sqrt(sum(one.norm**2 for one in every)), sum(one.tensors for one in every)
        if group.norm < 0.3 * everything and group.tensors < 0.3 * tensors:  # scales of norm layers outweigh matrices
            continue
        decay = float(group.settings["weight_decay"])
        rates = [step.learning_rate for step in own if math.isfinite(step.learning_rate)]
        decoupled = _decoupled(optimizer, group)
        ratios = [
            decay * step.parameter_norm / step.gradient_norm
            for step in own[len(own) // 2 :]
            if step.gradient_norm and step.parameter_norm and math.isfinite(step.gradient_norm)
        ]
        outweighs = 0.0 if decoupled or decay < limits.least else median(ratios or [0.0])
        shrink = 0.0
        if decoupled or optimizer.kind == "SGD":
            momentum = min(0.99, float(group.settings.get("momentum", 0.0)))
            shrink = 1 - math.exp(-sum(rates) * decay / (1 - momentum))
        # Adam divides the decay by the gradient's size along with the gradient: much of it is felt before it outweighs.
        adaptive = optimizer.kind in _ADAPTIVE and decay >= limits.adaptive and outweighs >= limits.felt
        if shrink < limits.shrink and outweighs < limits.outweigh and not adaptive:
            continue
        yield _finding(optimizer, decay, shrink, outweighs, own[0].parameter_norm, own[-1].parameter_norm, limits)


def _decoupled(optimizer: OptimizerRecord, group: GroupRecord) -> bool:
    return bool(group.settings.get("decoupled_weight_decay")) or optimizer.kind in ("AdamW", "Lion", "Muon")


def _finding(
    optimizer: OptimizerRecord,
    decay: float,
    shrink: float,
    outweighs: float,
    first: float | None,
    last: float | None,
    limits: WeightDecayLimits,
) -> Finding:
    place = optimizer.source_of("weight_decay")
    if outweighs >= limits.outweigh:
        what = f"weight decay {decay:g} pulls at the weights {outweighs:.3g} times as hard as the gradient"
    elif shrink < limits.shrink:
        what = (
            f"weight decay {decay:g} adds {outweighs:.0%} of its size to the gradient that {optimizer.kind} normalises"
        )
    else:
        what = f"weight decay {decay:g} alone takes {shrink:.0%} off the weights in the observed steps"
    norms = f" (norm {first:.4g} to {last:.4g})" if first and last else ""
    return Finding(
        message=what + norms,
        location=Location(path=place.path, line=place.line) if place else Location(),
        measured={
            "weight_decay": Measure(value=decay),
            "shrink": Measure(value=shrink, threshold=limits.shrink),
            "over_gradient": Measure(value=outweighs, threshold=limits.outweigh),
        },
        remedy="use a weight decay of 1e-4 (SGD, Adam) or 1e-2 (AdamW), or none",
        treatment=ScaleWeightDecay(factor=0.0, optimizer=optimizer.index),
    )
