"""Units that are zero for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.activation_stats import ActivationRecord, ActivationStats
from doctor.evidence.module_tree import ModuleTree, ParameterRecord
from doctor.evidence.op_tape import OpTape
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import Reinitialise, ReplaceActivation, Treatment


class DeadReluLimits(Limits):
    """Thresholds of GRD004."""

    dead_share: float = 0.6  # units of one layer that are zero for all samples of all sampled batches
    nearly_all: float = 0.9  # from here on it is a fault, whether or not its cure shows within a short trial
    low_bias: float = -0.5  # initial mean of a bias that holds its units below zero
    min_units: int = 8
    min_batches: int = 2
    min_samples: int = 64


@check("GRD004", "dead-relu", Severity.WARNING, faq="tuning/gradients/missing", nature=Nature.CONDITION)
def dead_relu(
    units: ActivationStats, tape: OpTape | None, tree: ModuleTree | None, limits: DeadReluLimits
) -> Iterator[Finding]:
    """Most units of a ReLU layer are zero for every sample and get no gradient.

    ## What it measures
    Units (channels, features) whose output is zero for every sample of every sampled training batch. Fires from
    `dead_share` of a layer's units, over at least `min_batches` batches. Zeros of single samples do not count: healthy
    ReLU layers are zero in 50 to 80 % of the cases.
    ## Why it hurts
    A dead unit has gradient zero and stays dead: the layer is as narrow as what is left.
    ## Example
    ```python
    nn.init.constant_(self.fc1.bias, -10.0)
    ```
    ## Use instead
    ```python
    nn.init.zeros_(self.fc1.bias)
    ```
    ## When it is right
    Wide layers lose some units in training; sparse codes are sparse by sample, not by unit.
    ## References
    Maas et al. (2013). DeepDiagnosis' rule on single zeros is 58 of its 68 false alarms on healthy models.
    """
    worst = max(
        (p for p in units.places if p.function in ("relu", "threshold") and _counts(p, limits)),
        key=lambda p: p.dead_share,
        default=None,
    )
    if worst is None or worst.dead_share < limits.dead_share:
        return
    module = _feeding(tape, worst)
    treatment: Treatment = (
        Reinitialise(modules=(module,)) if module else ReplaceActivation(function="relu", replacement="leaky_relu")
    )
    bias = _low_bias(tree, module, limits)
    place = ((bias.initialised or bias.created) if bias else None) or worst.source
    yield Finding(
        message=f"{worst.dead_share:.0%} of {worst.units} units are zero for all {worst.samples} samples"
        + (f": {bias.name} starts at {bias.mean:.3g} on average" if bias else ""),
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=worst.module or None
        ),
        measured={
            "dead_share": Measure(value=worst.dead_share, threshold=limits.dead_share),
            "input_mean": Measure(value=worst.input_mean),
        },
        remedy="mend the bias or the weights that push the units below zero, lower the learning rate, or use leaky_relu",
        treatment=treatment,
        demonstrated=f"no sample of {worst.batches} batches brings them above zero"
        if worst.dead_share >= limits.nearly_all
        else None,
    )


def _low_bias(tree: ModuleTree | None, module: str | None, limits: DeadReluLimits) -> ParameterRecord | None:
    """The bias of the feeding layer, where it starts far below zero."""
    own = [p for p in tree.parameters if p.module == module and p.name.endswith("bias")] if tree and module else []
    return next((p for p in own if p.mean <= limits.low_bias), None)


def _counts(place: ActivationRecord, limits: DeadReluLimits) -> bool:
    return (
        place.units >= limits.min_units and place.batches >= limits.min_batches and place.samples >= limits.min_samples
    )


def _feeding(tape: OpTape | None, place: ActivationRecord) -> str | None:
    """The module whose output goes straight into this activation."""
    for op in tape.first.named("relu", "threshold") if tape else ():
        if op.source == place.source and op.module == place.module and op.inputs:
            producer = tape.first.producer(op.inputs[0].id) if tape else None
            return producer.module or None if producer else None
    return None
