"""What the loss says of the model: not better than a constant, or better on the training samples only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from doctor.evidence.batch_log import BatchLog
from doctor.evidence.evaluation_losses import EvaluationLosses
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import Limits, check


class BaselineLimits(Limits):
    """Thresholds of EVL008."""

    band: float = 0.03  # relative distance of the loss from that of a constant prediction
    min_samples: int = 200


class OverfitLimits(Limits):
    """Thresholds of EVL007."""

    rise: float = 0.1  # of the evaluation loss above its lowest value
    min_evaluations: int = 3


@check(
    "EVL008",
    "stuck-at-baseline",
    Severity.INFO,
    faq="training/data/missing",
    faults=("insufficient-capacity",),
    nature=Nature.OUTCOME,
)
def stuck_at_baseline(trace: TrainingTrace, log: BatchLog, limits: BaselineLimits) -> Iterator[Finding]:
    """The loss stands at what a prediction that ignores the input would reach.

    ## What it measures
    Loss over the last quarter of the steps against the entropy of the observed labels, or the variance of the targets.
    ## Why it hurts
    A symptom: the model has learnt the frequencies of the targets and nothing of the inputs.
    ## Example
    ```python
    loss = criterion(model(torch.zeros_like(x)), y)
    ```
    ## Use instead
    ```python
    loss = criterion(model(x), y)
    ```
    ## When it is right
    Early in training, and where there is nothing to learn.
    ## References
    Karpathy, "A Recipe for Training Neural Networks" (2019), input-independent baseline.
    """
    if not trace.stands_still() or not log.targets:
        return
    target = log.targets[0]
    labels = [label for batch in target.labels for label in batch]
    if len(labels) >= limits.min_samples and not target.dtype.startswith("float"):
        counts = Counter(labels)
        baseline = -sum(n / len(labels) * math.log(n / len(labels)) for n in counts.values())
    elif target.std is not None and target.dtype.startswith("float") and not labels:
        baseline = target.std**2
    else:
        return
    last = trace.loss_level(trace.optimizers[0], False)
    if last is None or not baseline or abs(last - baseline) > limits.band * baseline:
        return
    place = trace.loss_source
    yield Finding(
        message=f"the loss stands at {last:.4g}; predicting the same for every input gives {baseline:.4g}",
        location=Location(path=place.path if place else None, line=place.line if place else None),
        measured={"baseline": Measure(value=baseline), "loss": Measure(value=last)},
        remedy="look for what keeps the inputs from the loss",
    )


@check(
    "EVL007",
    "overfit",
    Severity.INFO,
    faq="training/architecture/duplicated",
    faults=("overfit",),
    nature=Nature.OUTCOME,
)
def overfit(trace: TrainingTrace, losses: EvaluationLosses, limits: OverfitLimits) -> Iterator[Finding]:
    """The evaluation loss rises while the training loss falls.

    ## What it measures
    The mean loss of each evaluation (calls of one loss without gradients between two steps): the last against the
    lowest, while the training loss fell.
    ## Why it hurts
    From there on the model learns the samples and not the task.
    ## Example
    ```python
    for epoch in range(1000):
        train(model)
    ```
    ## Use instead
    ```python
    for epoch in range(1000):
        train(model)
        if patience.exhausted(validate(model)):
            break
    ```
    ## When it is right
    A rising loss with a rising accuracy is common in long trainings: this is a hint.
    ## References
    Prechelt, "Early Stopping, But When?" (1998).
    """
    values = losses.by_evaluation()
    if len(values) < limits.min_evaluations or len(trace.optimizers) != 1:
        return
    first, last = trace.loss_level(trace.optimizers[0], True), trace.loss_level(trace.optimizers[0], False)
    lowest = min(values)
    if first is None or last is None or last >= 0.9 * first or lowest <= 0:
        return
    if values[-1] > (1 + limits.rise) * lowest and values.index(lowest) < len(values) - 2 and last < lowest:
        place = losses.source
        yield Finding(
            message=f"the evaluation loss rises from {lowest:.4g} to {values[-1]:.4g} while the training loss falls to {last:.4g}",
            location=Location(path=place.path if place else None, line=place.line if place else None),
            measured={"rise": Measure(value=values[-1] / lowest - 1, threshold=limits.rise)},
            remedy="stop earlier, regularise, or use more data",
        )
