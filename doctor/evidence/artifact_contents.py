"""What the files of an artifact hold, read without executing anything: tensors by name and place, and what is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.base import Evidence
from doctor.probes import probe


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a file itself.

    `label` is the fault's name (`truncated-file`, `corrupt-file`, `malformed-header`, `path-traversal`,
    `missing-shard`, `duplicate-shard`); `place` a member, tensor or entry within the file. `also` are names that fit, too.
    """

    label: str
    message: str
    file: str = ""
    place: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorEntry:
    """One named tensor and where its bytes lie.

    `dtype` is PyTorch's name without `torch.`; `offset` and `nbytes` the bytes in `file` that hold its elements
    (`unread` says why there are none). `strides` (in elements) are given where it is not contiguous. Tensors with the
    same `storage` share memory by design. `role` is `weight`, `buffer` or `other` (optimizer states, samples).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int = 0
    nbytes: int = 0
    storage: str = ""
    strides: tuple[int, ...] | None = None
    device: str = "cpu"
    role: str = "weight"
    unread: str | None = None

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class NameUse:
    """A name (`module.attribute`) that a pickle asks for: by which opcode, at which byte of its stream's file."""

    path: str
    opcode: str
    position: int


@dataclass(frozen=True)
class PickleStream:
    """One pickle, followed opcode by opcode to its STOP or to its `fault` (why it could not be followed).

    `place` is the member that holds it, or its offset. `refused` are opcodes that weights-only loading does not know;
    `tricks` are uses that it refuses (a call of what is no name, a state set on a class, a strange persistent id).
    `cut`: only its end is missing. `scripted`: read by TorchScript's own reader, which makes only what the archive's code declares.
    """

    file: str
    place: str
    opcodes: int = 0
    names: tuple[NameUse, ...] = ()
    refused: tuple[str, ...] = ()
    tricks: tuple[str, ...] = ()
    fault: str | None = None
    scripted: bool = False
    cut: bool = False


@dataclass(frozen=True)
class CodeReference:
    """Code that comes with the artifact or is asked for by it and that a loader would run: `kind` is `custom-op`,
    `auto-map`, `library`, `object-array`, `pickle-payload` or `script`.
    """

    kind: str
    message: str
    file: str
    place: str | None = None


@dataclass(frozen=True)
class ArtifactContents(Evidence):
    """The tensors and the problems of all files; `facts` holds format-specific metadata (opsets, versions, graph)."""

    tensors: tuple[TensorEntry, ...] = ()
    problems: tuple[Problem, ...] = ()
    streams: tuple[PickleStream, ...] = ()
    code: tuple[CodeReference, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> tuple[TensorEntry, ...]:
        """The model's own tensors: parameters and buffers."""
        return tuple(tensor for tensor in self.tensors if tensor.role != "other")

    def labelled(self, *labels: str) -> tuple[Problem, ...]:
        """The problems with one of these labels."""
        return tuple(problem for problem in self.problems if problem.label in labels)


@probe
def artifact_contents(source: ArtifactSource) -> ArtifactContents:
    """Read every file by the reader of its format."""
    from doctor.formats.reading import read

    found = read(source)
    return ArtifactContents(
        tuple(found.tensors), tuple(found.problems), tuple(found.streams), tuple(found.code), found.facts
    )
