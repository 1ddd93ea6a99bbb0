"""The process that builds the reference model, and may run the artifact beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.errors import DoctorError, Unavailable
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.base import Evidence
from doctor.probes import probe

if TYPE_CHECKING:
    from doctor.parity.launch import ModelProcess


@dataclass(frozen=True, eq=False)
class ReferenceProcess(Evidence):
    """A running child process. It ends with the run of the artifact, or when it is closed or forgotten."""

    process: ModelProcess


@probe
def reference_process(source: ArtifactSource) -> ReferenceProcess:
    """Start it; nothing is waited for here."""
    from doctor.parity.launch import ModelProcess

    if source.reference is None:
        raise Unavailable("no reference model; give --reference module:factory")
    try:
        return ReferenceProcess(ModelProcess(source.reference, source.timeout_s, source.memory_mb))
    except DoctorError as failure:
        raise Unavailable(str(failure)) from None
