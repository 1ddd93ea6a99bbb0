"""Preprocessing that the artifact lacks."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_run import ParityRun
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check

from ._told import apart, measures


@check(
    "IOC005",
    "missing-preprocessing",
    Severity.ERROR,
    faq=("deployment/inputs and outputs/incorrect", "deployment/inputs and outputs/missing"),
    faults=("missing-preprocessing", "wrong-normalization-stats", "wrong-channel-order"),
)
def missing_preprocessing(parity: ParityRun) -> Iterator[Finding]:
    """The artifact takes inputs in other units than the reference: scaled, normalised, or in another order.

    ## What it measures
    Where the outputs differ: whether they agree once the artifact is given what the reference's first modules get (its
    own preprocessing), or inputs that are scaled, normalised, reversed in their channels or transposed as is usual. And
    whether the sample given holds the reference's own samples in other units, which the artifact does not convert.
    ## Why it hurts
    Raw pixels or unscaled features go into weights that were trained on normalised ones; nothing fails.
    ## Example
    ```python
    torch.onnx.export(served.backbone, x, "model.onnx")  # served.forward normalises first
    ```
    ## Use instead
    ```python
    torch.onnx.export(served, x, "model.onnx")
    ```
    ## When it is right
    Clients that preprocess themselves: give their preprocessed arrays as --inputs, and a reference that takes them.
    ## References
    github.com/onnx/models (preprocessing beside each model); DAT016 for the same fault between training and evaluation.
    """
    run, cause = parity.run, parity.cause
    related = run.related
    if not parity.faithful and cause is not None and cause.kind in ("missing-preprocessing", "double-preprocessing"):
        twice = cause.kind == "double-preprocessing"
        yield Finding(
            message=f"{apart(parity.sample)}; it vanishes for {cause.description}",
            location=Location(tensor=cause.names[0] if cause.names else None),
            measured={**measures(parity.sample, run), "rms_error_with_it": Measure(value=cause.rms)},
            faults=("missing-preprocessing", "output-mismatch"),
            demonstrated="both were run on the same inputs, and on the preprocessed ones",
            remedy="preprocess once: the artifact does it, and the caller as well"
            if twice
            else "export the model with its preprocessing, or do the same in every client",
        )
    elif related is not None and related.within is False and parity.sample.within:
        yield Finding(
            message=f"the sample is the reference's own in other units ({related.description}), and the artifact takes it "
            f"as it is: {apart(related)} from what the reference gives on its own",
            measured=measures(related, run),
            demonstrated="the artifact was run on the sample, the reference on its own samples",
            remedy="export the model with its preprocessing, or do the same in every client",
        )
