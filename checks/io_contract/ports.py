"""Inputs and outputs that are missing, doubled or exchanged."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_run import ArtifactRun, ParityRun
from doctor.evidence.io_contract import IOContract
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check, look

from ._told import NOT_FINITE, apart, measures, shown

_ANSWERS = ("label", "labels", "target", "targets", "y", "expected", "output", "outputs", "logits")


@check(
    "IOC007",
    "missing-input-or-output",
    Severity.ERROR,
    faq="deployment/inputs and outputs/missing",
    faults=("wrong-io-signature", "output-mismatch"),
)
def missing_input_or_output(run: ArtifactRun, parity: ParityRun | None) -> Iterator[Finding]:
    """An input or output of the reference is not in the artifact, or an input has no effect there.

    ## What it measures
    Inputs that the artifact requires and nobody sends; inputs that the reference's forward requires and the artifact does
    not take; outputs of the reference that are not among the artifact's. Each input is changed alone: where the
    reference's outputs move and the artifact's do not, the exporter has made a constant of it.
    ## Why it hurts
    A mask that is a constant is the mask of the export's example: padding is attended to in every other request.
    ## Example
    ```python
    torch.onnx.export(model, (ids, torch.ones_like(ids)), "model.onnx", input_names=["ids"])
    ```
    ## Use instead
    ```python
    torch.onnx.export(model, (ids, mask), "model.onnx", input_names=["ids", "mask"])
    ```
    ## When it is right
    Optional inputs with defaults, further outputs of models that return them by name (hidden states, caches), and inputs
    that change nothing in the reference either.
    ## References
    github.com/huggingface/optimum (checks the output names alone)
    """
    if run.missing and run.sampled:
        yield Finding(
            message=f"the artifact requires {shown(run.missing)}, which the sample does not hold",
            location=Location(tensor=run.missing[0]),
            demonstrated="the declared inputs were compared with the sample's",
            remedy="leave the input out of the export, or make clients send it",
        )
    required = set(run.reference.required) if run.reference else set()
    untaken = tuple(name for name in run.surplus if name in required and name not in _ANSWERS)
    ignored = [outcome for outcome in run.changed if not outcome.taken or not outcome.noticed]
    if untaken and not any(outcome.input in untaken for outcome in ignored):
        yield Finding(
            message=f"the artifact does not take {shown(untaken)}, which the reference requires",
            location=Location(tensor=untaken[0]),
            severity=Severity.INFO if parity is None or parity.faithful else Severity.ERROR,
            remedy="export with all inputs of forward",
        )
    for outcome in ignored:
        how = "is no input of the artifact" if not outcome.taken else "has no effect in the artifact"
        yield Finding(
            message=f"{outcome.input} changes the reference's outputs, and {how}",
            location=Location(tensor=outcome.input),
            follows_from=NOT_FINITE,  # every output is NaN, whatever comes in
            demonstrated="the input was changed alone",
            remedy=f"export with {outcome.input} as an input, and no value of it written into the graph",
        )
    named = all(not port.name.isdigit() for port in run.expected)
    if run.sample is not None and len(run.outputs) < len(run.expected) and not (named and run.names_agree):
        yield Finding(
            message=f"the artifact gives {len(run.outputs)} outputs, the reference {len(run.expected)}",
            measured={"outputs": Measure(value=len(run.outputs), threshold=len(run.expected))},
            severity=Severity.INFO if named else Severity.ERROR,
            demonstrated="both were run on the same inputs",
            remedy="export with all outputs that clients read",
        )


@check(
    "IOC008",
    "swapped-inputs",
    Severity.ERROR,
    faq="deployment/inputs and outputs/duplicated",
    faults=("swapped-inputs", "wrong-io-signature"),
)
def swapped_inputs(parity: ParityRun) -> Iterator[Finding]:
    """Inputs or outputs stand under each other's names.

    ## What it measures
    Where the outputs differ: whether they agree once inputs of the same shape and dtype, or the outputs, are exchanged.
    ## Why it hurts
    Both fit, nothing fails, and every answer is to another question.
    ## Example
    ```python
    torch.onnx.export(model, (query, key), "model.onnx", input_names=["key", "query"])
    ```
    ## Use instead
    ```python
    torch.onnx.export(model, (query, key), "model.onnx", input_names=["query", "key"])
    ```
    ## When it is right
    A model that is symmetric in its inputs agrees either way. Artifacts called by name may list their inputs in any
    order.
    ## References
    pytorch.org/docs: torch.onnx.export (input_names are given in the order of the graph's inputs)
    """
    cause = parity.cause
    if parity.faithful or cause is None or cause.kind not in ("swapped-inputs", "swapped-outputs"):
        return
    what = "fed" if cause.kind == "swapped-inputs" else "read"
    yield Finding(
        message=f"{apart(parity.sample)}; with {cause.description} the artifact agrees with the reference",
        location=Location(tensor=cause.names[0] if cause.names else None),
        measured={**measures(parity.sample, parity.run), "rms_error_exchanged": Measure(value=cause.rms)},
        demonstrated=f"both were run on the same inputs, {what} in either order",
        remedy=f"export again with {' and '.join(cause.names)} under their own names, in the order of forward",
    )


@look("IOC008")
def doubled_names(contract: IOContract) -> Iterator[Finding]:
    """Names that stand twice among the inputs or outputs of a file."""
    for name in contract.duplicates:
        yield Finding(
            message=f"{name} stands twice among the inputs or outputs",
            location=Location(tensor=name),
            faults=("wrong-io-signature",),
            demonstrated="it is written in the file",
            remedy="give every input and output a name of its own",
        )
