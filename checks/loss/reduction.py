"""Losses summed where a mean was meant, or divided once too often."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.loss_arguments import LossArguments
from doctor.evidence.loss_terms import LossTerms, Term
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.loss import ScaleGradients

from .places import at, related

_SCALED = ("SGD", "ASGD")  # whose steps are as large as the gradients; adaptive ones divide the scale out
_CRITERIA = (
    "cross-entropy",
    "squared error",
    "smooth L1 error",
    "Huber error",
    "binary cross-entropy",
    "square",
    "abs",
)


class ReductionLimits(Limits):
    """Thresholds of LOS010."""

    scale: float = 8.0  # times a mean, or below it
    # Signs of trouble without which no scale is in question: large steps with a loss that does not fall, or tiny ones.
    large_update: float = 0.02
    small_update: float = 3e-4
    progress: float = 0.15


@check("LOS010", "reduction-scale", Severity.ERROR, faq=("training/loss/incorrect", "tuning/learning rate/incorrect"))
def reduction_scale(
    terms: LossTerms,
    trace: TrainingTrace,
    log: OptimizerLog,
    arguments: LossArguments | None,
    limits: ReductionLimits,
) -> Iterator[Finding]:
    """The loss is a sum over the batch where its mean was meant, or a mean that is divided again.

    ## What it measures
    On the taped step, by what factor the loss differs from a mean over its elements: the reduction, and the plain
    factors behind it. Fires from `scale` times a mean upwards when the steps are large and the loss does not fall, and
    below 1/`scale` when they are tiny; only under plain gradient descent, whose steps grow with the loss. The trial
    scales the gradients to those of a mean and keeps the rest.
    ## Why it hurts
    The learning rate is multiplied by the batch size (the loss jumps or diverges) or divided by it (nothing moves), and
    changes with every change of the batch.
    ## Example
    ```python
    loss = F.mse_loss(prediction, y, reduction="sum")
    ```
    ## Use instead
    ```python
    loss = F.mse_loss(prediction, y)
    ```
    ## When it is right
    Summed losses with a rate made for them, Adam and its kin, division by the number of accumulated batches.
    ## References
    Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.
    """
    record = _plain(log, trace)
    main = [term for term in terms.terms if term.kind in _CRITERIA and term.sign > 0]
    if record is None or not main or len(trace.losses()) < 8 or record.backwards_per_step > 1.5:
        return
    term = main[0]
    factor = term.scale * (term.elements if term.reduction == "sum" else 1)
    ratio = trace.typical_update_ratio(record.index) or 0.0
    progress = _progress(trace, record)
    if factor >= limits.scale and _suffers(progress, ratio, limits):
        what = f"summed over {term.elements} elements: {factor:.4g} times their mean"
        remedy = "use the mean (reduction='mean'), or divide the sum by the number of elements"
        place = _summed(term, arguments)
    elif (
        factor <= 1 / limits.scale
        and progress is not None
        and progress < limits.progress
        and ratio < limits.small_update
    ):
        what = f"a mean that is divided again: {factor:.3g} times the mean"
        remedy = "leave the further division out"
        place = terms.divided_source or term.source
    else:
        return
    yield _finding(term, what, remedy, factor, ratio, at(place), limits)


def _summed(term: Term, arguments: LossArguments | None) -> Source | None:
    """Where the reduction was chosen: in the criterion's construction, or where the loss is computed."""
    called = [place for place in (arguments.places if arguments else ()) if place.source == term.source]
    return called[0].chosen if called and called[0].options.get("reduction") == "sum" else term.source


def _suffers(progress: float | None, ratio: float, limits: ReductionLimits) -> bool:
    """Whether the steps are too large: the loss rises, is lost, or stands under large steps."""
    return progress is None or progress < 0 or (progress < limits.progress and ratio > limits.large_update)


def _plain(log: OptimizerLog, trace: TrainingTrace) -> OptimizerRecord | None:
    stepping = [record for record in log.optimizers if record.index in trace.optimizers]
    return stepping[0] if len(stepping) == 1 and stepping[0].kind in _SCALED else None


def _progress(trace: TrainingTrace, record: OptimizerRecord) -> float | None:
    """Share of its beginning by which the loss has fallen; None when it is no number any more."""
    first, last = trace.loss_level(record.index, True), trace.loss_level(record.index, False)
    if first is None or last is None or not all(map(math.isfinite, trace.losses())):
        return None
    first = min(first, trace.losses(record.index)[0])  # it may have leapt within the first few steps
    return (first - last) / max(abs(first), 1e-12)


def _finding(
    term: Term, what: str, remedy: str, factor: float, ratio: float, place: Location, limits: ReductionLimits
) -> Finding:
    return Finding(
        message=f"the {term.kind} is {what}, while each step changes the parameters by {ratio:.2g} of their size",
        location=place,
        measured={
            "times_a_mean": Measure(value=factor, threshold=limits.scale),
            "update_ratio": Measure(value=ratio, threshold=limits.large_update if factor > 1 else limits.small_update),
        },
        remedy=remedy,
        treatment=ScaleGradients(factor=1.0 / factor),
        related=related(term.source, "the loss is computed here"),
    )
