"""Files that are damaged or break the rules of their format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents, Problem
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check

_REMEDIES = {
    "truncated-file": "copy or export the file again, and compare sizes or checksums",
    "corrupt-file": "export the file again, and verify it after every copy",
    "malformed-header": "write the file with the format's own library; do not load one that breaks its rules",
}


class CorruptLimits(Limits):
    """Thresholds of FIL001."""

    most: int = 10  # further faults of one file that are told; the rest is counted


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
    for ONNX that the messages parse and the weights have the size that their shape needs. Where no checksum tells: values
    beyond 1e12 and a billion times the others of their tensor, powers of ten and the ends of a type (masks) apart.
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
    for label, remedy in _REMEDIES.items():
        by_file: dict[str, list[Problem]] = defaultdict(list)
        for problem in contents.labelled(label):
            by_file[problem.file].append(problem)
        for file, problems in by_file.items():
            first, *others = problems
            yield Finding(
                message=first.message + (f" (and {len(others)} more faults in this file)" if others else ""),
                location=Location(path=file or None, tensor=first.place),
                measured={"faults": Measure(value=len(problems), threshold=0)},
                remedy=remedy,
                related=tuple(
                    Related(location=Location(path=file or None, tensor=other.place), message=other.message)
                    for other in others[: limits.most]
                ),
                faults=(label, *first.also),
            )
