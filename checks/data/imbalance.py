"""Classes too rare for the model to predict them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from doctor.evidence.batch_log import BatchLog
from doctor.evidence.target_log import TargetLog, TargetRecord
from doctor.evidence.token_alignment import TokenAlignment
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.base import Place
from doctor.trials.treatments.targets import WeightClasses

from ._places import location


class ImbalanceLimits(Limits):
    """Thresholds of DAT007."""

    share: float = 0.2  # of a class, over the share 1/C that it would have among equal ones
    recall: float = 0.1  # of that class in the later half of the run
    common_recall: float = 0.6  # of the other classes of several: less is a model that has not begun to learn
    min_minority: int = 12  # samples of it in the later half
    most_classes: int = 50


@check("DAT007", "class-imbalance", Severity.WARNING, faq="training/data/incorrect")
def class_imbalance(
    targets: TargetLog, batches: BatchLog | None, sequences: TokenAlignment | None, limits: ImbalanceLimits
) -> Iterator[Finding]:
    """A class is rare, the loss does not make up for it, and the model never predicts it.

    ## What it measures
    Counts of the classes at the loss, and the recall of each in the later half of the run. Fires for a class with less
    than `share` / C of the samples and a recall below `recall`. The trial weights the classes by the inverse of their
    frequency and compares the mean recall. Of more than two classes the others must have a mean recall of
    `common_recall`.
    ## Why it hurts
    Always predicting the common class is right in most cases; the rare one is often what the model is built for.
    ## Example
    ```python
    criterion = nn.CrossEntropyLoss()
    ```
    ## Use instead
    ```python
    criterion = nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))
    ```
    ## When it is right
    The tokens of a text are as rare as they are: losses over the positions of a sequence are left alone. Imbalance that the model copes with is silent, and so are weighted losses and samplers that balance the batches.
    ## References
    He and Garcia, "Learning from imbalanced data" (2009).
    """
    tokens = {place.source for place in sequences.places} if sequences else set()
    for place in targets.places:
        if place.source in tokens and place.source is not None:
            continue  # letters and words are no classes to be found evenly
        if not place.training or place.weighted or not 2 <= len(place.classes) <= limits.most_classes:
            continue
        rare = _ignored(place, limits)
        if not rare or place.target_dims > 2:
            continue
        if len(place.classes) > 2 and _mean_recall(place, leave_out=rare) < limits.common_recall:
            continue
        total = sum(place.classes)
        first = min(rare, key=lambda label: place.classes[label])
        share, recall = place.classes[first] / total, place.hits[first] / place.late_classes[first]
        mean = _mean_recall(place)
        where = place.source
        loader = next((ld.source for ld in (batches.loaders if batches else ()) if ld.used_in_training), None)
        yield Finding(
            message=f"class {first} has {share:.1%} of the samples and the model finds {recall:.0%} of them; the mean "
            f"recall of the {len(place.classes)} classes is {mean:.0%}",
            location=location(place.criterion, where, loader),
            measured={
                "share": Measure(value=share, threshold=limits.share / len(place.classes)),
                "recall": Measure(value=recall, threshold=limits.recall),
            },
            remedy="weight the classes in the loss (weight=, pos_weight=), or draw them evenly (WeightedRandomSampler)",
            treatment=WeightClasses(
                counts=place.classes, control=mean, place=Place(path=where.path, line=where.line) if where else Place()
            ),
        )
        return


def _ignored(place: TargetRecord, limits: ImbalanceLimits) -> list[int]:
    total, count = sum(place.classes), len(place.classes)
    if len(place.hits) != count or not total:
        return []
    return [
        label
        for label in range(count)
        if place.late_classes[label] >= limits.min_minority
        and place.classes[label] < limits.share / count * total
        and place.hits[label] < limits.recall * place.late_classes[label]
    ]


def _mean_recall(place: TargetRecord, leave_out: Sequence[int] = ()) -> float:
    pairs = enumerate(zip(place.hits, place.late_classes, strict=True))
    known = [hit / of for label, (hit, of) in pairs if of and label not in leave_out]
    return sum(known) / len(known) if known else 0.0
