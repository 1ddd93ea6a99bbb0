"""Accelerators that are written into an artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.io_contract import IOContract
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check, look

from ._told import shown

_FIRST = ("cuda", "cuda:0")


@check(
    "IOC011",
    "hard-coded-device",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("hard-coded-device",),
)
def hard_coded_device(contract: IOContract) -> Iterator[Finding]:
    """The graph names an accelerator.

    ## What it measures
    Device constants other than the CPU in the code of TorchScript and in the nodes of torch.export programs; and the
    devices that the tensors of a weight file were saved on.
    ## Why it hurts
    On a machine without that device (or with fewer of them) the artifact fails; on one with several it mixes devices.
    ## Example
    ```python
    mask = torch.arange(x.shape[1], device="cuda")
    ```
    ## Use instead
    ```python
    mask = torch.arange(x.shape[1], device=x.device)
    ```
    ## When it is right
    Traces on the CPU name it in every factory call; that is not reported. Weights saved on the first GPU load anywhere
    with map_location, and are info; other GPUs, and devices without data (meta), are not.
    ## References
    github.com/pytorch/pytorch: torch.jit.trace records devices as constants; torch.load (map_location)
    """
    notes = contract.of("device")
    if not notes:
        return
    devices = sorted({note.detail for note in notes})
    first = notes[0]
    path, _, line = (first.source or "").rpartition(":")
    yield Finding(
        message=f"{len(notes)} nodes name the device {', '.join(devices)}: {shown(tuple(note.place for note in notes))}",
        location=Location(path=path or None, line=int(line) if line else None, module=first.place),
        measured={"nodes": Measure(value=len(notes), threshold=0)},
        demonstrated="it is written in the graph",
        remedy="take the device from an input (x.device), and export on the CPU or on the device that serves",
    )


@look("IOC011")
def weights_on_a_device(contents: ArtifactContents) -> Iterator[Finding]:
    """Weights that were saved on an accelerator."""
    counts = Counter(tensor.device for tensor in contents.tensors if tensor.device not in ("", "cpu"))
    if not counts:
        return
    other = [device for device in counts if device not in _FIRST]
    devices = ", ".join(f"{count} on {device}" for device, count in sorted(counts.items()))
    yield Finding(
        message=f"tensors were saved on an accelerator: {devices}",
        measured={"tensors": Measure(value=counts.total(), threshold=0)},
        severity=Severity.ERROR if other else Severity.INFO,
        demonstrated="it is written in the file" if other else None,
        remedy="save model.cpu().state_dict(), or load with map_location",
    )
