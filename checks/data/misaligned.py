"""Targets that belong to other inputs."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.data_lines import DataLines
from doctor.evidence.pairing import Pairing
from doctor.evidence.reference_run import ReferenceRun
from doctor.evidence.target_log import TargetLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from ._places import location


class MisalignedLimits(Limits):
    """Thresholds of DAT012."""

    min_samples: int = 300
    per_class: int = 25
    errors: float = 2.5  # standard deviations above targets dealt out anew: less is nothing
    structure: float = 1.8  # variance in the leading directions, over that of independent columns
    smooth: float = 0.8  # correlation of the numbers that are to follow a window: a series that can be foretold
    words: float = 3.0  # of token ids: as unequally frequent as words are, whose presence tells classes apart
    shifted: float = 0.4  # explained share of the targets' variance once they are moved
    learnt: float = 0.8  # squared error, or loss over that of a constant, below which the program itself learns
    progress: float = 0.85  # loss of the last third over that of the first steps


@check("DAT012", "misaligned-labels", Severity.WARNING, faq="training/data/incorrect")
def misaligned_labels(
    pairing: Pairing,
    reference: ReferenceRun | None,
    targets: TargetLog | None,
    batches: BatchLog | None,
    lines: DataLines | None,
    limits: MisalignedLimits,
) -> Iterator[Finding]:
    """The inputs say nothing about the targets that they are paired with, though they have structure of their own.

    ## What it measures
    Three searches for information: a small reference model, ridge regression and nearest neighbours, each on held-out
    samples against targets dealt out anew; all must find nothing (`errors`), with enough samples, for inputs whose variance
    lies in few directions (`structure`). Where targets moved by a few samples are explained well, that is the proof.
    ## Why it hurts
    There is nothing to learn but single samples; the loss stays at that of a constant prediction.
    ## Example
    ```python
    order = torch.randperm(len(x))
    x = x[order]
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    ```
    ## Use instead
    ```python
    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    ```
    ## When it is right
    Random inputs (benchmarks), small sets, order-sensitive tasks and programs that do learn are silent.
    ## References
    Ojala and Garriga, "Permutation tests for studying classifier performance" (2010).
    """
    moved = pairing.shifted > limits.shifted and pairing.explained < 0.1 * pairing.shifted
    nothing = _nothing(pairing, reference, limits)
    if not (moved or nothing) or _learns(targets, pairing, reference, limits):
        return
    loader = next((ld.source for ld in (batches.loaders if batches else ()) if ld.used_in_training), None)
    how = (
        f"moved by {pairing.best_shift} samples the targets are explained to {pairing.shifted:.0%}, as paired to "
        f"{max(pairing.explained, 0):.0%}"
        if moved
        else f"{pairing.samples} samples: neither a reference model nor neighbours nor regression find more in these pairs "
        f"than in pairs dealt out anew, though the inputs have structure"
    )
    target = targets.places[0].source if targets and targets.places else None
    yield Finding(
        message=f"inputs and targets do not belong together; {how}",
        location=location(_permuted(lines), lines.targets() if lines else None, loader, target),
        measured={
            "fit_errors": Measure(value=pairing.fit_errors, threshold=limits.errors),
            "near_errors": Measure(value=pairing.near_errors, threshold=limits.errors),
            "structure": Measure(value=pairing.structure, threshold=limits.structure),
        },
        remedy="permute, sort and filter inputs and targets by one and the same index",
        demonstrated="permutation tests of the observed pairs",
    )


def _nothing(pairing: Pairing, reference: ReferenceRun | None, limits: MisalignedLimits) -> bool:
    enough = pairing.samples >= max(limits.min_samples, limits.per_class * pairing.classes)
    found = pairing.fit_errors > limits.errors or pairing.near_errors > limits.errors
    if not enough or found or pairing.structure < limits.structure:
        return False
    return (
        reference is not None
        and reference.finds_nothing
        and (
            reference.kind in ("perceptron", "convolutional network")
            or (reference.kind == "pooled embeddings" and pairing.ragged and pairing.structure >= limits.words)
            or (reference.kind == "pooled sequence" and pairing.smooth > limits.smooth)
        )
    )


def _learns(
    targets: TargetLog | None, pairing: Pairing, reference: ReferenceRun | None, limits: MisalignedLimits
) -> bool:
    """Whether the program's own model does better than a constant."""
    for place in targets.places if targets else ():
        if not place.training:
            continue
        if place.relative_error is not None:
            return place.relative_error < limits.learnt
        total = sum(place.late_classes)
        if total:
            accuracy, common = sum(place.hits) / total, max(place.late_classes) / total
            return accuracy > common + max(0.05, 0.4 * (1 - common))
    return False


def _permuted(lines: DataLines | None) -> Source | None:
    found = [line for line in (lines.of("permute") if lines else []) if line.call != "sort"]
    return found[0].source if found else None
