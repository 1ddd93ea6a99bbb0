"""Weights of classes that work against what they are for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import correlation

from doctor.evidence.loss_arguments import LossArguments, LossPlace
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .places import at, called


class WeightingLimits(Limits):
    """Thresholds of LOS014."""

    min_labels: int = 100
    frequency_ratio: float = 2.0  # below, the classes are as good as balanced (a balancing sampler, say)
    weight_ratio: float = 1.5
    clear_ratio: float = 3.0  # both ratios this large, and the direction wrong: no choice, a mistake
    correlation: float = 0.8


@check("LOS014", "loss-weighting", Severity.ERROR, faq="training/loss/incorrect")
def inverted_class_weights(arguments: LossArguments, limits: WeightingLimits) -> Iterator[Finding]:
    """Class weights give the frequent classes more weight still.

    ## What it measures
    `weight` of cross-entropy against how often each class stood in the observed batches: the correlation of their
    logarithms over the classes (at least `correlation`, both spread by a factor of 2 and 1.5); `pos_weight` below one
    half for positives that are rarer than a third, or above two for positives that are more than two thirds.
    ## Why it hurts
    Weights are meant to make up for rare classes. Inverted, they make the model ignore them altogether.
    ## Example
    ```python
    weight = counts / counts.sum()
    loss = F.cross_entropy(logits, y, weight=weight)
    ```
    ## Use instead
    ```python
    weight = counts.sum() / (len(counts) * counts)
    loss = F.cross_entropy(logits, y, weight=weight)
    ```
    ## When it is right
    Batches that a sampler has balanced already are silent; so are weights of 0 for a class to be left out.
    ## References
    King and Zeng 2001, "Logistic regression in rare events data"; `torch.nn.BCEWithLogitsLoss`, `pos_weight`.
    """
    for place in arguments.training("cross_entropy", "nll_loss"):
        yield from _classes(place, limits)
    for place in arguments.training("binary_cross_entropy_with_logits"):
        yield from _positives(place, limits)


def _classes(place: LossPlace, limits: WeightingLimits) -> Iterator[Finding]:
    if place.weight is None or place.counts is None or len(place.weight) != len(place.counts):
        return
    ignored = place.options.get("ignore_index", -100)
    pairs = [
        (float(count), weight)
        for index, (count, weight) in enumerate(zip(place.counts, place.weight, strict=True))
        if count > 0 and weight > 0 and index != ignored
    ]
    if len(pairs) < 2 or sum(count for count, _ in pairs) < limits.min_labels:
        return
    counts, weights = [count for count, _ in pairs], [weight for _, weight in pairs]
    spread, weighted = max(counts) / min(counts), max(weights) / min(weights)
    if spread < limits.frequency_ratio or weighted < limits.weight_ratio:
        return
    together = correlation(_logs(counts), _logs(weights))
    if together < limits.correlation:
        return
    clear = min(spread, weighted) >= limits.clear_ratio
    yield Finding(
        message=f"class weights grow with the classes' frequency (correlation {together:.2f}): the most frequent class is "
        f"{spread:.3g} times as frequent as the rarest, and weights reach {weighted:.3g} times the smallest",
        location=at(place.chosen),
        related=called(place),
        severity=Severity.ERROR if clear else Severity.WARNING,
        measured={
            "correlation": Measure(value=together, threshold=limits.correlation),
            "weight_ratio": Measure(value=weighted, threshold=limits.weight_ratio),
        },
        remedy="weight each class by the inverse of its frequency",
        demonstrated="rare classes have the smaller weights",
    )


def _positives(place: LossPlace, limits: WeightingLimits) -> Iterator[Finding]:
    if place.pos_weight is None or place.counts is None or len(place.counts) != 2:
        return
    positives, negatives = (list(map(float, part)) for part in place.counts)
    weights = list(place.pos_weight) * (len(positives) if len(place.pos_weight) == 1 else 1)
    if len(weights) != len(positives):
        return
    wrong = [
        (yes / (yes + no), weight)
        for yes, no, weight in zip(positives, negatives, weights, strict=True)
        if yes + no >= limits.min_labels and yes and no and _inverted(yes / (yes + no), weight)
    ]
    if not wrong or len(wrong) < 0.5 * len(weights):
        return
    share, weight = wrong[0]
    odds = share / (1 - share)
    yield Finding(
        message=f"pos_weight is {weight:.3g} while {share:.1%} of the labels are positive: the rarer side gets less weight"
        f" (balance would be {1 / odds:.3g})",
        location=at(place.chosen),
        related=called(place),
        severity=Severity.ERROR if abs(math.log(weight / odds)) < math.log(1.6) else Severity.WARNING,
        measured={"pos_weight": Measure(value=weight, threshold=1 / odds)},
        remedy="pos_weight is the number of negatives over the number of positives",
        demonstrated="the rarer label has the smaller weight",
    )


def _inverted(share: float, weight: float) -> bool:
    return weight > 0 and ((share < 1 / 3 and weight <= 0.5) or (share > 2 / 3 and weight >= 2))


def _logs(values: Sequence[float]) -> list[float]:
    return [math.log(value) for value in values]
