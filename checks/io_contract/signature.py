"""Inputs and outputs that are not what clients send and expect."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_run import ArtifactRun
from doctor.evidence.io_contract import IOContract, Port
from doctor.findings import Finding, Location, Severity
from doctor.registry import check, look

_ROUNDING = ("float16", "bfloat16", "float32", "float64")


@check(
    "IOC004",
    "wrong-io-signature",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("wrong-io-signature", "dtype-mismatch"),
)
def wrong_io_signature(run: ArtifactRun, contract: IOContract | None) -> Iterator[Finding]:
    """Names, dtypes, ranks or sizes of inputs and outputs are not those of the sample and the reference.

    ## What it measures
    The declared inputs against the arrays of the sample (their names where the file of the sample has names, dtypes,
    ranks, sizes) and against the parameters of the reference's forward; the outputs' shapes and kinds of numbers against
    the reference's.
    ## Why it hurts
    Runtimes refuse a request with another name or dtype; where they do not, numbers are silently cast.
    ## Example
    ```python
    torch.onnx.export(model, ids.int(), "model.onnx", input_names=["tokens"])  # clients send int64 input_ids
    ```
    ## Use instead
    ```python
    torch.onnx.export(model, ids, "model.onnx", input_names=["input_ids"])
    ```
    ## When it is right
    Artifacts that are called by position (TorchScript, torch.export) have no names to get wrong. Floats of another
    precision (unless float64 is declared and less is sent), and names that differ from forward's parameters where no
    sample names them, are reported as info. JSON knows no dtypes: whole numbers of any width are the same there.
    ## References
    github.com/huggingface/optimum/issues/994; onnxruntime.ai/docs/api/python: InferenceSession.run
    """
    ports = {port.name: port for port in contract.inputs} if contract else {}
    yield from _names(run)
    yield from _dtypes(run)
    yield from _shapes(run, ports)


def _names(run: ArtifactRun) -> Iterator[Finding]:
    if not run.renamed or not run.named or not run.given_by_name:
        return
    pairs = ", ".join(f"{own} where clients send {other}" for own, other in run.renamed)
    certain = run.origin in ("file", "json")
    yield Finding(
        message=f"the artifact's inputs have other names than the sample's: {pairs}",
        location=Location(tensor=run.renamed[0][0]),
        severity=Severity.ERROR if certain else Severity.INFO,
        faults=("wrong-io-signature",),
        demonstrated="the names of the file were compared with the sample's" if certain else None,
        remedy=f"export with input_names={[other for _, other in run.renamed]}",
    )


def _dtypes(run: ArtifactRun) -> Iterator[Finding]:
    unknown = run.origin in ("json", "generated")
    # Half precision is meant, and NumPy widens samples unasked; an artifact wider than its clients is an accident.
    clear = [(n, kinds) for n, kinds in run.cast if not set(kinds) <= set(_ROUNDING) or kinds[1] == "float64"]
    clear = [] if unknown else clear
    for cast, certain in ((clear, True), ([each for each in run.cast if each not in clear], False)):
        if not cast:
            continue
        told = ", ".join(f"{name} is declared {wanted} and sent as {sent}" for name, (sent, wanted) in cast)
        yield Finding(
            message=f"the artifact's inputs have other dtypes than the sample's: {told}",
            location=Location(tensor=cast[0][0]),
            severity=Severity.ERROR if certain else Severity.INFO,
            demonstrated="the declared dtypes were compared with the sample's" if certain else None,
            remedy=f"export with an example of dtype {cast[0][1][0]}, or cast in every client",
        )


def _shapes(run: ArtifactRun, ports: dict[str, Port]) -> Iterator[Finding]:
    sent = {port.name: port for port in run.given}
    renamed = dict(run.renamed)
    for name, port in ports.items():
        other = sent.get(renamed.get(name, name))
        if other is None or port.dims is None or other.dims is None or not run.sampled:
            continue
        sizes = zip(port.dims[1:], other.dims[1:], strict=False)
        if len(port.dims) != len(other.dims):
            what = f"{len(port.dims)} dimensions are declared, {len(other.dims)} are sent"
        elif any(isinstance(own, int) and own != size for own, size in sizes):
            what = f"{list(port.dims)} is declared, {list(other.dims)} is sent"
        else:
            continue
        yield Finding(
            message=f"input {name}: {what}",
            location=Location(tensor=name),
            demonstrated="the declared shape was compared with the sample's",
            remedy="export with an example of the shape that clients send, and free dimensions where it varies",
        )


@look("IOC004")
def outputs_of_another_form(run: ArtifactRun, contract: IOContract | None) -> Iterator[Finding]:
    """Outputs whose shape or kind of numbers is not the reference's."""
    if run.sample is None:
        return
    kinds = {port.name: port.dtype for port in (*run.outputs, *run.expected)}
    for each in run.sample.differences:
        if not each.same_shape:
            yield Finding(
                message=f"output {each.artifact_output} has shape {each.artifact_shape}, the reference's {each.shape}",
                location=Location(tensor=each.artifact_output),
                faults=("wrong-io-signature", "output-mismatch", "stale-artifact"),
                demonstrated="both were run on the same inputs",
                remedy="export the model's own outputs, in its layout",
            )
        own, theirs = kinds.get(each.artifact_output), kinds.get(each.output)
        if own and theirs and each.same_shape and ("float" in own) != ("float" in theirs):
            yield Finding(
                message=f"output {each.artifact_output} is {own}, the reference's is {theirs}",
                location=Location(tensor=each.artifact_output),
                demonstrated="both were run on the same inputs",
                remedy="export the model's own outputs, without a cast",
            )
