"""Training data drawn in the order of its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from doctor.evidence.batch_log import BatchLog
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import ShuffleData


class UnshuffledLimits(Limits):
    """Thresholds of DAT014."""

    min_batches: int = 4
    mixing: float = 0.5  # label diversity within batches, as a share of that of shuffled batches


@check("DAT014", "unshuffled-data", Severity.WARNING, faq="training/data/incorrect")
def unshuffled_data(log: BatchLog, limits: UnshuffledLimits) -> Iterator[Finding]:
    """The batches come sorted or blocked by their target.

    ## What it measures
    The chance that two samples of one batch differ in their class, averaged over the observed batches, against that
    chance over all of them together (Gini index); shuffled data gives 1, sorted data nearly 0. Fires below `mixing`.
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
    if loader is not None and loader.shuffled:
        return
    for target in log.targets:
        batches = [batch for batch in target.labels if len(batch) > 1]
        classes = {label for batch in batches for label in batch}
        if len(batches) < limits.min_batches or not 2 <= len(classes) <= 1000 or len(set(map(len, batches))) > 3:
            continue
        mixing = _mixing(batches)
        if mixing >= limits.mixing:
            continue
        place = loader.source if loader else (log.source or target.source)
        yield Finding(
            message=f"labels mix within a batch at {mixing:.0%} of what shuffled batches would show",
            location=Location(path=place.path, line=place.line) if place else Location(),
            measured={
                "mixing": Measure(value=mixing, threshold=limits.mixing),
                "batches": Measure(value=len(batches)),
            },
            remedy="shuffle the training data: DataLoader(..., shuffle=True)",
            treatment=ShuffleData(loader=loader.index) if loader else None,
            demonstrated=f"{len(batches)} batches in the order of their labels",
        )
        return


def _mixing(batches: Sequence[Sequence[int]]) -> float:
    within = sum(_gini(batch) * len(batch) for batch in batches) / sum(map(len, batches))
    overall = _gini([label for batch in batches for label in batch])
    return within / overall if overall else 1.0


def _gini(labels: Sequence[int]) -> float:
    count = len(labels)
    return 1.0 - sum(n * (n - 1) for n in Counter(labels).values()) / (count * (count - 1))
