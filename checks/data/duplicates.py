"""Samples that stand several times in the training set."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.batch_log import BatchLog
from doctor.evidence.data_lines import DataLines
from doctor.evidence.sample_log import SampleLog, TrainingSamples
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from ._places import location


class DuplicateLimits(Limits):
    """Thresholds of DAT002."""

    share: float = 0.25  # of the samples of one pass that repeat another; natural repeats stay far below
    min_samples: int = 64
    unevenness: float = 0.1  # variance over mean of the copies of a sample: by chance 1 and more
    least_distinct: int = 20  # fewer may be a truth table


@check("DAT002", "duplicate-samples", Severity.WARNING, faq="training/data/duplicated")
def duplicate_samples(
    samples: SampleLog, batches: BatchLog | None, lines: DataLines | None, limits: DuplicateLimits
) -> Iterator[Finding]:
    """Many samples stand more than once in the training set.

    ## What it measures
    64-bit fingerprints of the samples of one epoch of a loader that draws without replacement (or of one full batch):
    the share that repeat another. Only where two samples can hardly be alike by chance, that is with real-valued columns,
    or where all of at least 20 different samples stand there equally often.
    ## Why it hurts
    The copies count several times, and a split made after copying puts the same sample on both sides.
    ## Example
    ```python
    frame = pd.concat([first, second, first])
    ```
    ## Use instead
    ```python
    frame = pd.concat([first, second]).drop_duplicates()
    ```
    ## When it is right
    Samplers that draw with replacement (oversampling) are silent, and so are tables of few distinct values and one
    class that is repeated on purpose.
    ## References
    Barz and Denzler, "Do we train on test data?" (2020).
    """
    for training in samples.training:
        share = training.pass_repeated / training.pass_samples if training.pass_samples else 0.0
        if training.pass_samples < limits.min_samples or share < limits.share:
            continue
        if not (training.unlikely_alike or _copied(training, limits)):
            continue
        loaders = batches.loaders if batches else ()
        loader = next((loader for loader in loaders if loader.index == training.loader), None)
        made = lines.of("dataset") if lines else []
        numbers = batches is None or any(known.root == training.root for known in batches.inputs)
        yield Finding(
            severity=None if numbers else Severity.INFO,  # short sequences of ids repeat by themselves
            message=f"{share:.0%} of the {training.pass_samples} samples of one pass repeat another sample exactly",
            location=location(made[0].source if made else None, loader.source if loader else None),
            measured={"repeated": Measure(value=share, threshold=limits.share)},
            remedy="remove the repeated samples before the data is split and loaded",
            demonstrated="equal contents of samples drawn without replacement",
        )
        return


def _copied(training: TrainingSamples, limits: DuplicateLimits) -> bool:
    """Whether every sample stands in the pass equally often: so do copies, and nothing that repeats itself by chance."""
    distinct = training.pass_samples - training.pass_repeated
    uneven = training.pass_unevenness
    return distinct >= limits.least_distinct and uneven is not None and uneven <= limits.unevenness
