"""Files that are damaged or break the rules of their format."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

_REMEDIES = {
    "truncated-file": "copy or export the file again, and compare sizes or checksums",
    "corrupt-file": "export the file again, and verify it after every copy",
    "malformed-header": "write the file with the format's own library; do not load one that breaks its rules",
}


class CorruptLimits(Limits):
    """Thresholds of FIL001."""

    most: int = 10  # findings of one kind told one by one; the rest is counted


@check(
    "FIL001",
    "corrupt-file",
    Severity.ERROR,
    faq=("deployment/model file/incorrect", "deployment/model file/missing"),
    faults=("corrupt-file", "truncated-file", "malformed-header"),
)
def corrupt_file(contents: ArtifactContents, limits: CorruptLimits) -> Iterator[Finding]:
    """The file is cut off, damaged, or breaks the rules of its own format.

    ## What it measures
    The headers against the file: sizes, offsets, checksums, the format against the name. For safetensors that every
    byte belongs to exactly one tensor; for zip archives that the directory, the local headers and the CRC-32 agree;
    for ONNX that the messages parse and the weights have the size that their shape needs.
    ## Why it hurts
    One loader stops with an error, another loads other numbers, a third reads bytes that no tensor owns.
    ## Example
    ```python
    shutil.copyfileobj(response.raw, open("model.safetensors", "wb"))  # the connection ends early, nothing checks
    ```
    ## Use instead
    ```python
    shutil.copyfileobj(response.raw, open("model.safetensors.part", "wb"))
    assert sha256("model.safetensors.part") == expected
    os.replace("model.safetensors.part", "model.safetensors")
    ```
    ## When it is right
    Never for a file that shall be loaded. Padding that a format allows (alignment in zip archives) is not reported.
    ## References
    The safetensors format (github.com/huggingface/safetensors); PKWARE, APPNOTE.TXT.
    """
    for label in _REMEDIES:
        problems = contents.labelled(label)
        for index, problem in enumerate(problems[: limits.most]):
            rest = len(problems) - limits.most
            more = f" (and {rest} more of this kind)" if rest > 0 and index == limits.most - 1 else ""
            yield Finding(
                message=problem.message + more,
                location=Location(path=problem.file or None, tensor=problem.place),
                measured={"problems": Measure(value=len(problems), threshold=0)},
                remedy=_REMEDIES[label],
                faults=(label,),
            )
