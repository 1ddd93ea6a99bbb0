"""Where the loss begins."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.loss_arguments import LossArguments
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Measure, Nature, Severity
from doctor.registry import Limits, check

from .places import at


class InitialLossLimits(Limits):
    """Thresholds of LOS015."""

    factor: float = 2.5  # times ln C; healthy image models start up to twice as high


@check(
    "LOS015",
    "initial-loss",
    Severity.INFO,
    faq=("training/loss/incorrect", "tuning/parameters/incorrect"),
    nature=Nature.OUTCOME,
)
def initial_loss(arguments: LossArguments, trace: TrainingTrace, limits: InitialLossLimits) -> Iterator[Finding]:
    """The first loss is far above that of a model that knows nothing.

    ## What it measures
    The loss of the first step against ln C, where one cross-entropy of C classes is the only loss. A hint, no verdict.
    ## Why it hurts
    The model starts out sure of itself and wrong: large initial logits, labels off by one, a loss summed instead of
    averaged. The first steps are spent on unlearning.
    ## Example
    ```python
    nn.init.normal_(head.weight, std=1.0)
    loss = F.cross_entropy(head(features), y)
    ```
    ## Use instead
    ```python
    nn.init.normal_(head.weight, std=0.02)
    loss = F.cross_entropy(head(features), y)
    ```
    ## When it is right
    Tied embeddings, CTC, some mobile networks and every summed loss begin far above ln C and train well.
    ## References
    Karpathy 2019, "A recipe for training neural networks".
    """
    places = [place for place in arguments.places if place.training]
    losses = trace.losses()
    if len(places) != 1 or places[0].function != "cross_entropy" or not losses or len(trace.optimizers) != 1:
        return
    place = places[0]
    classes = max(place.outputs, default=1)
    if classes < 2 or place.options.get("reduction", "mean") != "mean" or not math.isfinite(losses[0]):
        return
    if losses[0] > limits.factor * math.log(classes):
        yield Finding(
            message=f"the first loss is {losses[0]:.3g}; a model that knows nothing of {classes} classes has "
            f"{math.log(classes):.3g}",
            location=at(place.source),
            measured={"first_loss": Measure(value=losses[0], threshold=limits.factor * math.log(classes))},
            remedy="start with a smaller last layer, and look at the labels' encoding",
        )
