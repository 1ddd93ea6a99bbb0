"""Batch sizes that the artifact does not take."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_run import ArtifactRun, Outcome
from doctor.evidence.io_contract import IOContract, Port
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check


@check(
    "IOC003",
    "fixed-batch-dim",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("fixed-batch-dim",),
)
def fixed_batch_dim(run: ArtifactRun, contract: IOContract | None) -> Iterator[Finding]:
    """The artifact takes one batch size only.

    ## What it measures
    The sample's rows as batches of 1, 2 and 7, and as the sample has them: the artifact must take those that the
    reference takes, and give as many rows. A batch size that the file itself declares as fixed is reported when it is
    larger than 1, or when the sample has another one.
    ## Why it hurts
    It works with the batch of the export, and fails at the first other request.
    ## Example
    ```python
    h = h.reshape(8, -1)
    torch.onnx.export(model, x, "model.onnx")
    ```
    ## Use instead
    ```python
    h = h.flatten(1)
    torch.onnx.export(model, (x,), "model.onnx", dynamic_shapes=({0: torch.export.Dim("batch")},))
    ```
    ## When it is right
    A fixed batch of 1, where the sample has 1 row, too (info). The batch of a torch.export program is fixed unless it is
    exported otherwise: where the sample has as many rows, that is a warning if the reference was seen to take other
    batches and the program was not, else info. Models whose reference fails at these sizes itself. First dimensions that
    are no batch (the dimension called batch stands elsewhere).
    ## References
    pytorch.org/docs: torch.export.Dim, torch.onnx.export (dynamic_shapes, dynamic_axes)
    """
    if run.reference_alone is not None and run.reference_alone.within is False:
        return  # rows of the reference depend on each other: its first dimension is time, or it mixes its batch
    fixed = _declared(contract)
    failing = [outcome for outcome in run.batches if _fails(outcome, run)]
    known = run.reference is not None or run.sampled
    if fixed is not None:
        port, size = fixed
        other = run.batch is not None and run.sampled and run.batch != size
        if size == 1 and not other:
            severity = Severity.INFO
        elif contract is not None and contract.format == "pt2" and not other:  # its default, perhaps not meant
            severity = Severity.WARNING if run.reference is not None and failing else Severity.INFO
        else:
            severity = Severity.ERROR if known or not _free(contract) else Severity.INFO
        refused = all(outcome.reference_fails for outcome in run.batches) and bool(run.batches)
        if refused and not other:
            return
        told = f", and the sample has {run.batch} rows" if other else ""
        yield Finding(
            message=f"input {port.name} is declared with a fixed batch of {size}{told}",
            location=Location(tensor=port.name),
            measured={"batch": Measure(value=size), **({"sample": Measure(value=run.batch)} if run.batch else {})},
            severity=severity,
            demonstrated=f"the file declares {port}",
            remedy="export with a free batch dimension (dynamic_shapes, or dynamic_axes)",
        )
    elif failing and (run.sample is None or run.sample.within is not None or run.reference is None):
        first = failing[0]
        sizes = ", ".join(str(outcome.size) for outcome in failing)
        declared = contract is not None and any(port.dims for port in contract.inputs)
        yield Finding(
            message=f"batches of {sizes} fail{_how(first)}",
            measured={f"batch_{outcome.size}": Measure(value="fails") for outcome in failing},
            severity=Severity.ERROR if known or declared else Severity.INFO,
            demonstrated="the artifact was run with batches of 1, 2 and 7",
            remedy="write no batch size into the graph: reshape by -1 or x.shape[0], and export with a free batch dimension",
        )


def _declared(contract: IOContract | None) -> tuple[Port, int] | None:
    """An input whose batch dimension is a number; none where the batch goes by name, or is a first dimension of one."""
    if contract is None:
        return None
    ports = [port for port in contract.inputs if port.dims]
    free = [dim for port in ports for dim in port.dims or () if isinstance(dim, str)]
    if not ports or any("batch" in dim.lower() or dim.lower() in ("n", "b", "bs") for dim in free):
        return None
    first = ports[0]
    dims = first.dims or ()
    if len(dims) < 2 and not any(len(port.dims or ()) > 1 for port in ports):
        return None
    outputs = [port.dims[0] for port in contract.outputs if port.dims]
    if isinstance(dims[0], int) and (not outputs or dims[0] in outputs):
        return first, dims[0]
    return None


def _free(contract: IOContract | None) -> bool:
    """Whether any dimension of the inputs is free: without a reference, it may be the batch."""
    return contract is not None and any(isinstance(dim, str) for port in contract.inputs for dim in port.dims or ())


def _fails(outcome: Outcome, run: ArtifactRun) -> bool:
    if outcome.reference_fails:
        return False
    if outcome.error:
        return True
    worst = outcome.worst
    if worst is not None:
        return not worst.same_shape and (run.sample is None or run.sample.within is not False)
    return bool(outcome.shapes) and all(shape and shape[0] != outcome.size for _, shape in outcome.shapes)


def _how(outcome: Outcome) -> str:
    if outcome.error:
        return f" ({outcome.error})"
    worst = outcome.worst
    return f" (shape {worst.artifact_shape} instead of {worst.shape})" if worst else ""
