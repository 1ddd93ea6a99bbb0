"""Training data drawn in the order of its labels."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog, LoaderRecord
from doctor.evidence.data_lines import DataLines
from doctor.evidence.id_order import IdOrder
from doctor.evidence.target_log import TargetLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check, look
from doctor.trials.treatments import ShuffleData

from ._places import location

_ORDER = re.compile(r"(order|perm\w*|idx|index|indices|ids)$", re.IGNORECASE)


class UnshuffledLimits(Limits):
    """Thresholds of DAT014."""

    min_batches: int = 4
    mixing: float = 0.5  # label diversity within batches, as a share of that of shuffled batches
    within: float = 0.3  # variance of numbers within batches, over all of it; drifting series keep more
    rising: float = 0.95  # of the batches whose ids never fall and follow those of the batch before
    starts: int = 8  # different ids with which batches begin
    turns: float = 0.5  # of the sequence of batches; alternating batches take nearly all


@check("DAT014", "unshuffled-data", Severity.WARNING, faq="training/data/incorrect")
def unshuffled_data(
    log: BatchLog, numbers: TargetLog | None, lines: DataLines | None, limits: UnshuffledLimits
) -> Iterator[Finding]:
    """The batches come sorted or blocked by their target.

    ## What it measures
    The chance that two samples of one batch differ in their class, averaged over the observed batches, against that
    chance over all of them together (Gini index); shuffled data gives 1, sorted data nearly 0. Fires below `mixing`. For
    real-valued targets the variance within batches over all variance, below `within`. Of ids (one a sample), whether they
    rise within batches and from batch to batch.
    ## Why it hurts
    Each batch pulls the model towards its own class, and the last ones win; batch statistics are those of one class.
    ## Example
    ```python
    loader = DataLoader(dataset_sorted_by_class, batch_size=64)
    ```
    ## Use instead
    ```python
    loader = DataLoader(dataset_sorted_by_class, batch_size=64, shuffle=True)
    ```
    ## When it is right
    A loader without shuffling over data that is in random order already is silent, and so are full-batch programs.
    ## References
    Bengio, "Practical recommendations for gradient-based training of deep architectures" (2012), section 3.
    """
    loader = next((loader for loader in log.loaders if loader.used_in_training), None)
    if loader is not None and (loader.shuffled or loader.shuffled is None):
        return  # a sampler of the user's own has its reasons
    for target in log.targets:
        batches = [batch for batch in target.labels if len(batch) > 1]
        classes = {label for batch in batches for label in batch}
        if len(batches) < limits.min_batches or not 2 <= len(classes) <= 1000 or len(set(map(len, batches))) > 3:
            continue
        mixing = _mixing(batches)
        if mixing < limits.mixing and _sorted(batches) <= limits.turns:
            yield _finding(f"labels mix within a batch at {mixing:.0%} of what shuffled batches would show", mixing,
                           len(batches), limits, loader, log.source or target.source, lines)  # fmt: skip
            return
    for place in numbers.places if numbers else ():
        blocked = place.within is not None and place.within < limits.within and place.turns <= limits.turns
        if place.training and blocked and place.batches >= 2 * limits.min_batches and place.within is not None:
            yield _finding(f"targets vary within a batch at {place.within:.0%} of their variance", place.within,
                           place.batches, limits, loader, log.source or place.source, lines)  # fmt: skip
            return


@look("DAT014")
def in_order_of_ids(
    order: IdOrder, log: BatchLog | None, lines: DataLines | None, limits: UnshuffledLimits
) -> Iterator[Finding]:
    """The samples of a batch are those of a few users (items, sessions), who come one after the other.

    A user's row is moved some times in a row and then not for the rest of the epoch, and every batch is of its own kind.
    """
    loader = next((loader for loader in (log.loaders if log else ()) if loader.used_in_training), None)
    if loader is not None and (loader.shuffled or loader.shuffled is None):
        return
    for field in order.fields:
        if (
            len(field.calls) >= 2 * limits.min_batches
            and field.starts >= limits.starts
            and field.rising >= limits.rising
        ):
            yield _finding(f"the ids of {field.name} rise from batch to batch: samples come one id after the other",
                           1 - field.rising, len(field.calls), limits, loader, field.source, lines)  # fmt: skip
            return


def _finding(
    message: str, mixing: float, batches: int, limits: UnshuffledLimits, loader: LoaderRecord | None,
    training: Source | None, lines: DataLines | None,
) -> Finding:  # fmt: skip
    cut = lines is not None and loader is None
    strides = lines.of("stride") if lines and cut else []
    orders = [line for line in lines.of("assign") if line.call in ("arange", "range")] if lines and cut else []
    orders = [line for line in orders if any(map(_ORDER.match, line.names))]
    return Finding(
        message=message,
        location=location(
            loader.source if loader else None,
            orders[0].source if orders else None,
            strides[0].source if strides else None,
            training,
        ),
        measured={
            "mixing": Measure(value=mixing, threshold=limits.mixing),
            "batches": Measure(value=batches),
        },
        remedy="shuffle the training data: DataLoader(..., shuffle=True)"
        if loader
        else "draw a new permutation every epoch and cut the batches from it",
        treatment=ShuffleData(loader=loader.index) if loader else None,
        demonstrated=f"{batches} batches in this order",
    )


def _sorted(batches: Sequence[Sequence[int]]) -> float:
    """Share of the turns that the commonest labels of the batches take: few when they come in order, every second one
    when real and generated samples alternate.
    """
    common = [Counter(batch).most_common(1)[0][0] for batch in batches]
    steps = [later - earlier for earlier, later in itertools.pairwise(common)]
    return sum(a * b < 0 for a, b in itertools.pairwise(steps)) / max(1, len(steps) - 1)


def _mixing(batches: Sequence[Sequence[int]]) -> float:
    within = sum(_gini(batch) * len(batch) for batch in batches) / sum(map(len, batches))
    overall = _gini([label for batch in batches for label in batch])
    return within / overall if overall else 1.0


def _gini(labels: Sequence[int]) -> float:
    count = len(labels)
    return 1.0 - sum(n * (n - 1) for n in Counter(labels).values()) / (count * (count - 1))
