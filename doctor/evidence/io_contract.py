"""What an exported file says of itself: its inputs and outputs, and what in its graph will not serve as it stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from doctor.errors import Unavailable
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.base import Evidence
from doctor.evidence.pickle_manifest import PickleManifest
from doctor.probes import probe

Dim = int | str | None

_EXPORTED = ("onnx", "torchscript", "pt2")


@dataclass(frozen=True)
class Port:
    """One declared input or output.

    `dtype` is PyTorch's name (`float32`); `dims` are sizes, names of free dimensions, or None where nothing is said;
    `dims` itself is None where the file does not declare a rank. `used` says whether any node reads an input.
    """

    name: str
    dtype: str | None = None
    dims: tuple[Dim, ...] | None = None
    used: bool = True

    def __str__(self) -> str:
        if self.dims is None:
            return f"{self.name}: {self.dtype or '?'}"
        return f"{self.name}: {self.dtype or '?'}[{', '.join('?' if dim is None else str(dim) for dim in self.dims)}]"


@dataclass(frozen=True)
class GraphNote:
    """A node that matters for serving.

    `kind` is `training` (computes as in training), `random` (draws numbers), `device` (names an accelerator),
    `quantised`, or `adapter` (multiplies by a matrix of an adapter that was not merged). `place` is the node, module or member; `op` its operation; `detail` the telling argument.
    """

    kind: str
    place: str
    op: str
    detail: str = ""
    source: str | None = None


@dataclass(frozen=True)
class IOContract(Evidence):
    """Inputs, outputs and noteworthy nodes of an exported file, read without running it.

    `named` says whether clients address inputs by name (ONNX) or by position. `metadata` are the file's own key-value
    pairs.
    """

    format: str
    file: str
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    named: bool = False
    opset: int | None = None
    producer: str = ""
    notes: tuple[GraphNote, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> tuple[GraphNote, ...]:
        """The nodes of one kind."""
        return tuple(note for note in self.notes if note.kind == kind)

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Names that stand twice among the inputs, or twice among the outputs."""
        counts = [Counter(port.name for port in ports) for ports in (self.inputs, self.outputs)]
        return tuple(name for count in counts for name, times in count.items() if times > 1)


@probe
def io_contract(source: ArtifactSource, manifest: PickleManifest) -> IOContract:
    """Read the signature of the exported file; of one that was not judged safe, no pickle."""
    files = [file for file in source.files if file.format in _EXPORTED]
    if not files:
        raise Unavailable("the artifact declares no inputs and outputs: it holds weights alone")
    file = files[0]
    from doctor.interfaces import reading

    try:
        return reading.read(Path(source.root) / file.path, file.path, file.format, attributes=manifest.safe())
    except reading.UnreadableInterface as failure:
        # Unread for a reason that is not known: where nothing else is found, that is no pass.
        raise Unavailable(f"{file.path}: {failure}", failure.unexplained) from None
