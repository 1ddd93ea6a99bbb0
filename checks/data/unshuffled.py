"""Training data drawn in the order of its labels."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog, LoaderRecord
from doctor.evidence.data_lines import DataLines
from doctor.evidence.target_log import TargetLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import ShuffleData

from ._places import location


class UnshuffledLimits(Limits):
    """Thresholds of DAT014."""

    min_batches: int = 4
    mixing: float = 0.5  # label diversity within batches, as a share of that of shuffled batches
    within: float = 0.3  # variance of numbers within batches, over all of it; drifting series keep more
    turns: float = 0.5  # of the sequence of batches; alternating batches take nearly all


@check("DAT014", "unshuffled-data", Severity.WARNING, faq="training/data/incorrect")
def unshuffled_data(
    log: BatchLog, numbers: TargetLog | None, lines: DataLines | None, limits: UnshuffledLimits
) -> Iterator[Finding]:
    """The batches come sorted or blocked by their target.

    ## What it measures
    The chance that two samples of one batch differ in their class, averaged over the observed batches, against that
    chance over all of them together (Gini index); shuffled data gives 1, sorted data nearly 0. Fires below `mixing`. For
    real-valued targets the variance within batches over all variance, below `within`.
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


def _finding(
    message: str, mixing: float, batches: int, limits: UnshuffledLimits, loader: LoaderRecord | None,
    training: Source | None, lines: DataLines | None,
) -> Finding:  # fmt: skip
    strides = lines.of("stride") if lines and loader is None else []
    return Finding(
        message=message,
        location=location(loader.source if loader else None, strides[0].source if strides else None, training),
        measured={
            "mixing": Measure(value=mixing, threshold=limits.mixing),
            "batches": Measure(value=batches),
        },
        remedy="shuffle the training data: DataLoader(..., shuffle=True)"
        if loader
        else "draw a new permutation every epoch and cut the batches from it",
        treatment=ShuffleData(loader=loader.index) if loader else None,
        demonstrated=f"{batches} batches in the order of their targets",
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
