"""Frozen parameters by root."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source, sources
from doctor.probes import probe


@dataclass(frozen=True)
class FrozenRoot:
    """One root: elements, frozen ones, and of the frozen weights that could be judged (`examined`) those that look
    as if they were only initialised. `loads` counts loads of weights in the program. `tables` are the frozen embeddings,
    where their values, taken together, are distributed as drawn from a normal distribution; `table` is the line of the first,
    and `by_default` says that none of their lines asks for it.
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
    tables: tuple[str, ...] = ()
    table: Source | None = None
    by_default: bool = False


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
                tables=tuple(event.get("tables", ())),
                table=source(event.get("line_of_tables")),
                by_default=event.get("by_default", False),
            )
            for event in recording.of("frozen")
        )
    )
