"""Answers that depend on the batch or on chance."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_run import ArtifactRun, ParityRun
from doctor.evidence.io_contract import IOContract
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check

from ._told import measures, shown


def _in_training(contract: IOContract | None, parity: ParityRun | None) -> bool:
    """Whether IOC002 names the cause."""
    told = contract is not None and bool(contract.of("training"))
    return told or bool(parity and parity.cause and parity.cause.kind == "train-mode-export")


@check(
    "IOC009",
    "batch-variance",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("batch-mixing", "output-mismatch"),
)
def batch_variance(run: ArtifactRun, contract: IOContract | None, parity: ParityRun | None) -> Iterator[Finding]:
    """An answer depends on the other rows of its batch, and in the reference it does not.

    ## What it measures
    Up to four rows of the sample alone and in their batch, for the artifact and for the reference, with the tolerance of
    the artifact's precision.
    ## Why it hurts
    The same request gets another answer when the server is busy.
    ## Example
    ```python
    x = (x - x.mean()) / x.std()  # over the whole batch
    ```
    ## Use instead
    ```python
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    ```
    ## When it is right
    Dynamic quantisation scales activations by the batch, within its tolerance. Models whose reference mixes rows, too.
    Without a reference the first dimension may be no batch: info. Training mode is told by IOC002.
    ## References
    ARC008 for the same fault in a program.
    """
    alone, beside = run.alone, run.reference_alone
    if alone is None or alone.within is not False or run.unsteady is not None or _in_training(contract, parity):
        return
    if beside is not None and beside.within is False:
        return
    worst = alone.worst
    yield Finding(
        message=f"a row alone and in its batch differ by up to {worst.max_abs if worst else 0.0:.3g}"
        + (", which in the reference they do not" if beside is not None else ""),
        measured=measures(alone, run),
        severity=Severity.ERROR if beside is not None and beside.within else Severity.INFO,
        demonstrated="rows were run alone and in their batch",
        remedy="compute statistics over each row's own elements, and export in eval mode",
    )


@check(
    "IOC010",
    "non-determinism",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("non-determinism", "output-mismatch"),
)
def non_determinism(run: ArtifactRun, contract: IOContract | None, parity: ParityRun | None) -> Iterator[Finding]:
    """Two runs on the same inputs give different outputs, and those of the reference do not.

    ## What it measures
    The artifact twice on the sample, in ONNX Runtime with graph optimisations and without (they may remove a Dropout that
    is in training mode); the reference twice, without setting a seed in between.
    ## Why it hurts
    Results cannot be reproduced, cached or compared; a metric moves by chance.
    ## Example
    ```python
    x = F.dropout(x, 0.1)  # training=True by default
    ```
    ## Use instead
    ```python
    x = F.dropout(x, 0.1, training=self.training)
    ```
    ## When it is right
    Models that sample on purpose: their reference differs from run to run as well. Without a reference it is info.
    ## References
    pytorch.org/docs: Reproducibility
    """
    outcome = run.unsteady
    if outcome is None or outcome.worst is None or _in_training(contract, parity):
        return
    again = run.reference_repeat
    steady = again is not None and again.worst is not None and again.worst.rms <= 1e-6
    random = tuple(note.place for note in contract.of("random")) if contract else ()
    if again is not None and not steady:
        return
    yield Finding(
        message=f"two runs on the same inputs differ by up to {outcome.worst.max_abs:.3g}"
        + (f": {shown(random)} draws random numbers" if random else ""),
        location=Location(module=random[0] if random else None, tensor=None if random else outcome.worst.output),
        measured={"max_abs_difference": Measure(value=outcome.worst.max_abs, threshold=0.0)},
        severity=Severity.ERROR if steady else Severity.INFO,
        demonstrated="the artifact was run twice",
        remedy="export in eval mode, and draw no numbers within the graph",
    )
