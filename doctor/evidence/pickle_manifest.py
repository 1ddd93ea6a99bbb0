"""Every pickle of an artifact, followed opcode by opcode and never executed, with what it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.artifact_contents import ArtifactContents, CodeReference, NameUse, PickleStream
from doctor.evidence.base import Evidence
from doctor.formats.torch_globals import ALLOWED, KNOWN, MODULES, SCRIPTED
from doctor.probes import probe


@dataclass(frozen=True)
class PickleManifest(Evidence):
    """All streams, and other code that comes with the artifact."""

    streams: tuple[PickleStream, ...] = ()
    code: tuple[CodeReference, ...] = ()

    def safe(self, own: frozenset[str] = frozenset()) -> bool:
        """Whether loading runs nothing: every stream is followed to its end, and asks for harmless names only, or for
        `own` ones.
        """
        return not self.code and not any(
            stream.fault or stream.tricks or self.outside(stream, own) for stream in self.streams
        )

    @staticmethod
    def outside(stream: PickleStream, allowed: frozenset[str] = frozenset()) -> tuple[NameUse, ...]:
        """The names that neither weights-only loading accepts nor are plain objects, classes of torch.nn, `allowed`."""
        return tuple(
            use
            for use in stream.names
            if use.path not in ALLOWED | KNOWN | MODULES | allowed and not _scripted(stream, use)
        )

    @staticmethod
    def plain(stream: PickleStream) -> tuple[NameUse, ...]:
        """The names that weights-only loading refuses though they are harmless."""
        return tuple(use for use in stream.names if use.path in (KNOWN | MODULES) - ALLOWED)


def _scripted(stream: PickleStream, use: NameUse) -> bool:
    return stream.scripted and (use.path.startswith("__torch__.") or use.path in SCRIPTED)


@probe
def pickle_manifest(contents: ArtifactContents) -> PickleManifest:
    """Collected while the files were read."""
    return PickleManifest(contents.streams, contents.code)
