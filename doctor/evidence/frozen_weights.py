"""Frozen parameters by root."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, sources
from doctor.probes import probe


@dataclass(frozen=True)
class FrozenRoot:
    """One root: elements, frozen ones, and of the frozen weights that could be judged (`examined`) those that look
    as if they were only initialised. `loads` counts loads of weights in the program.
    """

    root: int
    parameters: int
    frozen: int
    examined: int = 0
    untrained: int = 0
    names: tuple[str, ...] = ()
    loads: int = 0
    pretrained: bool = False
    lines: tuple[Source, ...] = ()


@dataclass(frozen=True)
class FrozenWeights(Evidence):
    """All roots."""

    roots: tuple[FrozenRoot, ...] = ()

    @property
    def learnt(self) -> bool:
        """Whether some model was given weights that were learnt elsewhere."""
        return any(root.loads or root.pretrained for root in self.roots)


@probe
def frozen_weights(recording: Recording) -> FrozenWeights:
    """Read the roots."""
    return FrozenWeights(
        tuple(
            FrozenRoot(
                root=event["root"],
                parameters=event["parameters"],
                frozen=event["frozen"],
                examined=event["examined"],
                untrained=event["untrained"],
                names=tuple(event["names"]),
                loads=event["loads"],
                pretrained=event["pretrained"],
                lines=tuple(sources(event["lines"])),
            )
            for event in recording.of("frozen")
        )
    )
