"""What the gate's policy asks of the files themselves: their size and their format."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.artifact_source import ArtifactSource
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check


class SizeLimits(Limits):
    """Thresholds of FIL007."""

    max_bytes: int | None = None  # bytes of all files together; [tool.doctor.gate] max-size


@check("FIL007", "oversized-artifact", Severity.ERROR, faq="deployment/model file/incorrect")
def oversized_artifact(
    source: ArtifactSource, contents: ArtifactContents | None, limits: SizeLimits
) -> Iterator[Finding]:
    """The artifact is larger than the policy of the project allows.

    ## What it measures
    The bytes of all files of the artifact together, and of the tensors that lie in further files (shards, external
    data of ONNX), against `max-size` of `[tool.doctor.gate]`. Without it, nothing.
    ## Why it hurts
    The image, the memory or the download of the deployment was laid out for a smaller one: it fails there, or is slow.
    ## Example
    ```python
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "model.pt")  # three times the size
    ```
    ## Use instead
    ```python
    torch.save(model.state_dict(), "model.pt")
    ```
    ## When it is right
    The limit is the project's own: raise it where the larger artifact is wanted.
    ## References
    `[tool.doctor.gate]` in the doctor's documentation, docs/ci.md.
    """
    size = source.size + _elsewhere(source, contents)
    if limits.max_bytes is not None and size > limits.max_bytes:
        largest = max(source.files, key=lambda file: file.size)
        yield Finding(
            message=f"{_megabytes(size)} in all, and the policy allows {_megabytes(limits.max_bytes)}",
            location=Location(path=largest.path),
            measured={"size": Measure(value=size, threshold=limits.max_bytes, unit="bytes")},
            remedy="leave out what is not deployed (optimizer states, a second copy of the weights), "
            "store the weights in fewer bits, or raise max-size in [tool.doctor.gate]",
        )


def _elsewhere(source: ArtifactSource, contents: ArtifactContents | None) -> int:
    """Bytes of the tensors in files that the artifact's own files refer to."""
    own = {file.path for file in source.files}
    tensors = contents.tensors if contents is not None else ()
    spans = {(tensor.file, tensor.offset, tensor.nbytes) for tensor in tensors if tensor.file not in own}
    return sum(nbytes for _, _, nbytes in spans)


class FormatLimits(Limits):
    """Thresholds of FIL008."""

    formats: tuple[str, ...] = ()  # none: all may pass; [tool.doctor.gate] formats


@check("FIL008", "unwanted-format", Severity.ERROR, faq="deployment/model file/incorrect")
def unwanted_format(source: ArtifactSource, limits: FormatLimits) -> Iterator[Finding]:
    """The artifact has a format that the policy of the project does not let pass.

    ## What it measures
    The format by content, never by name, against `formats` of `[tool.doctor.gate]`. In a folder, that of every file of
    weights. Without `formats`, nothing.
    ## Why it hurts
    The target's runtime reads what was agreed upon. A pickle where safetensors were meant runs code when it is loaded.
    ## Example
    ```python
    torch.save(model, "model.safetensors")  # a pickle, whatever its name
    ```
    ## Use instead
    ```python
    safetensors.torch.save_file(model.state_dict(), "model.safetensors")
    ```
    ## When it is right
    The list is the project's own: add the format where it is wanted.
    ## References
    `[tool.doctor.gate]` in the doctor's documentation, docs/ci.md.
    """
    if not limits.formats or (source.format in limits.formats and source.format != "huggingface"):
        return
    weights = [file for file in source.files if file.format != "unknown"]
    wanted = {*limits.formats, "sharded"} if len(source.files) > 1 else {*limits.formats}
    for file in weights or source.files[:1]:
        if file.format not in wanted:
            yield Finding(
                message=f"{file.path} is {file.format} by its content, and the policy lets "
                f"{', '.join(limits.formats)} pass",
                location=Location(path=file.path),
                remedy=f"export it as {limits.formats[0]}, or add {file.format} to formats in [tool.doctor.gate]",
            )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.4g} MB"
