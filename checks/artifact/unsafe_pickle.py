"""Files that can run code when they are loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pydantic import field_validator

from doctor.evidence.artifact_contents import PickleStream
from doctor.evidence.pickle_manifest import PickleManifest
from doctor.evidence.reference_model import ReferenceModel
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

_CURE = "do not load it; ask its author for safetensors, or load it where nothing can be lost and save a state dict"


class PickleLimits(Limits):
    """Thresholds of FIL002."""

    allow: tuple[str, ...] = ()  # further names that you trust, in full: "my_models.net.Net"
    most: int = 10  # streams told one by one

    @field_validator("allow", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


@check(
    "FIL002",
    "unsafe-pickle",
    Severity.ERROR,
    faq="deployment/model file/incorrect",
)
def unsafe_pickle(
    manifest: PickleManifest, reference: ReferenceModel | None, limits: PickleLimits
) -> Iterator[Finding]:
    """The file holds a pickle that asks for code, or brings code another way.

    ## What it measures
    Every pickle stream is followed opcode by opcode without executing any: in any member of an archive whatever its
    name, behind the end of another stream, within bytes of another, between the members. The names it asks for are held
    against those that `torch.load(weights_only=True)` accepts (PyTorch 2.13); a stream that cannot be followed to its
    end is unsafe. Names that only make plain objects (NumPy scalars, layers of torch.nn) are told as info, since loading
    needs `weights_only=False`. Also: operators with a library of their own, `auto_map`, pickled payloads in `.pt2`.
    ## Why it hurts
    Unpickling calls whatever the file names, with the rights of the process that serves the model.
    ## Example
    ```python
    torch.save(model, "model.pt")  # the pickle names my_project.Net: loading imports and builds it
    model = torch.load("model.pt", weights_only=False)
    ```
    ## Use instead
    ```python
    torch.save(model.state_dict(), "model.pt")
    model.load_state_dict(torch.load("model.pt", weights_only=True))
    ```
    ## When it is right
    For a file of your own whose names you know: list them in `[tool.doctor.rules.FIL002] allow`. Names of
    Python's own library are never allowed. The classes of the layers of `--reference` are your own code, and info.
    ## References
    The pickle module's warning (docs.python.org); torch.load, `weights_only` (docs.pytorch.org); arXiv 2508.19774.
    """
    # A name of Python's own library builds no model, and several run whatever they are given.
    allowed = frozenset(name for name in limits.allow if name.partition(".")[0] not in sys.stdlib_module_names)
    own = reference.own_classes if reference is not None else frozenset()
    told = 0
    for stream in manifest.streams:
        finding = _judge(stream, allowed, own, manifest)
        if finding is None or (told >= limits.most and finding.severity is not None):
            continue
        told += finding.severity is None
        yield finding
    for brought in manifest.code[:50]:
        # A tool of deployment may bring its own operators or library on purpose: only a pickle runs without being asked.
        lesser = Severity.WARNING if brought.kind in ("custom-op", "auto-map", "object-array") else None
        yield Finding(
            message=brought.message,
            severity=Severity.INFO if brought.kind == "library" else lesser,
            location=Location(path=brought.file, tensor=brought.place),
            remedy="deploy only with code that you have read and pinned, or export without it",
        )


def _judge(
    stream: PickleStream, allowed: frozenset[str], own: frozenset[str], manifest: PickleManifest
) -> Finding | None:
    outside = manifest.outside(stream, allowed | own)
    reasons = []
    if outside:
        listed = ", ".join(f"{use.path} ({use.opcode} at byte {use.position})" for use in outside[:5])
        more = f" and {len(outside) - 5} more" if len(outside) > 5 else ""
        reasons.append(f"the pickle asks for {listed}{more}")
    if stream.tricks:
        reasons.append(f"{'it' if reasons else 'the pickle'} makes {'; '.join(stream.tricks[:3])}")
    if stream.fault:
        reasons.append(f"{'it' if reasons else 'the pickle'} cannot be followed to its end: {stream.fault}")
    location = Location(path=stream.file, tensor=stream.place or None)
    measured = {"names": Measure(value=len(outside), threshold=0), "opcodes": Measure(value=stream.opcodes)}
    if reasons:
        # Up to where it was cut off it names nothing but what weights-only loading takes: damaged (FIL001), not unsafe.
        harmless = stream.cut and not outside and not stream.tricks
        return Finding(
            message="; ".join(reasons),
            severity=Severity.INFO if harmless else None,
            location=location,
            measured=measured,
            remedy=_CURE,
        )
    plain = (*manifest.plain(stream), *(use for use in stream.names if use.path in own))
    if plain or (stream.refused and not stream.scripted):
        listed = ", ".join([use.path for use in plain[:4]] or stream.refused[:4])
        return Finding(
            message=f"torch.load(weights_only=True) refuses it for {listed}; what it builds are plain objects"
            + (" and the reference's own layers" if own else ""),
            severity=Severity.INFO,
            location=location,
            measured={"names": Measure(value=len(plain), threshold=0)},
            remedy="save the state dict, and numbers as Python numbers, with the default protocol",
        )
    return None
