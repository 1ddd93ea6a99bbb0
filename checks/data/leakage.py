"""Evaluation samples that the model was trained on."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.data_lines import DataLines
from doctor.evidence.sample_log import EvaluatedSamples, SampleLog, TrainingSamples
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from ._places import location


class LeakageLimits(Limits):
    """Thresholds of DAT003."""

    share: float = 0.05  # of the evaluation samples; natural repeats of clean data stay below 1 to 2 %
    error_share: float = 0.15
    min_seen: int = 5
    times_chance: float = 3.0  # of the share of texts that repeat by chance
    min_samples: int = 24
    pieces: float = 0.5  # of the evaluation windows whose middle stands in a training window; a border gives less


@check("DAT003", "train-test-leakage", Severity.ERROR, faq="training/data/duplicated")
def train_test_leakage(
    samples: SampleLog, lines: DataLines | None, log: BatchLog | None, limits: LeakageLimits
) -> Iterator[Finding]:
    """Samples that the program evaluates on were trained on before.

    ## What it measures
    64-bit fingerprints of the samples of training and of evaluation forwards: the share of the distinct evaluation
    samples that were trained on earlier in the run. For windows of a series, the share of evaluation windows whose
    middle half stands in a training window. For two loaders over subsets of one data set, the places that both draw.
    ## Why it hurts
    The score is that of memory: it does not hold for new data, and selects the model that overfits most.
    ## Example
    ```python
    train = Subset(data, order[:900])
    test = Subset(data, order[700:])
    ```
    ## Use instead
    ```python
    train = Subset(data, order[:700])
    test = Subset(data, order[700:])
    ```
    ## When it is right
    An additional report on the training set is silent, as are cross-validation with a model a fold, tables of few distinct
    values that repeat by chance, and forwards without gradients inside the training step (target networks, pseudo-labels).
    ## References
    Kapoor and Narayanan, "Leakage and the reproducibility crisis in machine-learning-based science" (2023).
    """
    apart = any(s.shared < 0.5 * limits.share * s.samples for s in samples.shared)
    for shared in samples.shared:
        share = shared.shared / shared.samples
        if apart and share > 0.98:
            continue  # a report on a part of the training set, beside an evaluation on others
        reads = [
            ld.source for ld in (log.loaders if log else ()) if ld.used_in_training and ld.length == shared.training
        ]
        whole = reads[0] if reads and shared.subset is not None and shared.training_subset is None else None
        if share >= limits.share and shared.shared >= limits.min_seen and shared.shared < 0.999 * shared.training:
            yield Finding(
                message=f"{shared.shared} of the {shared.samples} samples of the evaluation loader are drawn by the "
                f"training loader, too",
                location=location(whole, shared.subset, _split(lines), shared.training_subset, shared.source),
                measured={"share": Measure(value=share, threshold=limits.share)},
                remedy="make the index sets of the two subsets disjoint",
                demonstrated="both loaders hold the same places of one data set",
            )
            return
    for training in samples.training:
        groups = [g for g in samples.evaluated if g.root == training.root and _is_pass(g, limits)]
        leaking = [g for g in groups if _leaks(g, training, limits)]
        clean = any(g.share < 0.5 * limits.share and g.samples >= limits.min_samples for g in groups)
        if leaking and not clean:
            yield _finding(max(leaking, key=lambda g: g.share), lines, limits)
            return
        windows = [g for g in groups if g.pieces >= limits.min_samples and g.pieces_seen > limits.pieces * g.pieces]
        if windows and not leaking and not clean_windows(groups, limits) and training.unlikely_alike:
            yield _windows(windows[0], lines, limits)
            return


def _is_pass(group: EvaluatedSamples, limits: LeakageLimits) -> bool:
    """Whether it is an evaluation: enough samples, not part of every training step, not the training set itself."""
    inside = group.steps > 5 and group.steps > 0.3 * group.of_steps and not group.repeated
    return group.samples >= limits.min_samples and not (inside or group.same_dataset or group.covered > 0.9)


def clean_windows(groups: list[EvaluatedSamples], limits: LeakageLimits) -> bool:
    """Whether some evaluation is made on windows that stand apart from training."""
    return any(g.pieces >= limits.min_samples and g.pieces_seen < 0.5 * limits.pieces * g.pieces for g in groups)


def _leaks(group: EvaluatedSamples, training: TrainingSamples, limits: LeakageLimits) -> bool:
    if group.seen < limits.min_seen or group.share < limits.share or group.share > 0.98:
        return False
    chance = training.by_chance
    if chance is None:
        return training.unlikely_alike
    return group.share > limits.times_chance * chance and (training.unlikely_alike or group.share >= limits.error_share)


def _split(lines: DataLines | None) -> Source | None:
    found = [*lines.of("whole"), *lines.of("split")] if lines else []
    return found[0].source if found else None


def _finding(group: EvaluatedSamples, lines: DataLines | None, limits: LeakageLimits) -> Finding:
    return Finding(
        severity=Severity.ERROR if group.share >= limits.error_share else Severity.WARNING,
        message=f"{group.seen} of the {group.samples} evaluated samples ({group.share:.0%}) were trained on before",
        location=location(group.subset, _split(lines), group.source),
        measured={"share": Measure(value=group.share, threshold=limits.share), "seen": Measure(value=group.seen)},
        remedy="split first, then copy, oversample or augment the training part only; drop repeated samples before",
        demonstrated="equal contents, bit by bit, in training and in evaluation",
    )


def _windows(group: EvaluatedSamples, lines: DataLines | None, limits: LeakageLimits) -> Finding:
    share = group.pieces_seen / group.pieces
    return Finding(
        message=f"{share:.0%} of the evaluated windows overlap a training window by half their length or more",
        location=location(_split(lines), _permuted(lines), group.subset, group.source),
        measured={"overlap": Measure(value=share, threshold=limits.pieces)},
        remedy="split the series by time before it is cut into windows",
        demonstrated="the middles of evaluation windows stand in training windows",
    )


def _permuted(lines: DataLines | None) -> Source | None:
    found = lines.of("permute") if lines else []
    return found[0].source if found else None
