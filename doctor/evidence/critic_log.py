"""Models that judge what others have made, and which way the judgement is pushed."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source, sources
from doctor.probes import probe


@dataclass(frozen=True)
class Critic:
    """One critic. `cut` and `through` are mean gradients of the loss with respect to its judgement of what was made: in
    its own steps, where the generator's graph is cut off, and in the generator's.

    `cuts` are the lines of the former. `real` and `made` are the ranges of what it is called with; `root`, `path` name it, `generator` the root of the other.
    """

    root: int
    path: str
    generator: int
    cut: tuple[float, ...] = ()
    through: tuple[float, ...] = ()
    real: tuple[float, float] | None = None
    made: tuple[float, float] | None = None
    source: Source | None = None
    cuts: tuple[Source, ...] = ()


@dataclass(frozen=True)
class CriticLog(Evidence):
    """All of them."""

    critics: tuple[Critic, ...] = ()


@probe
def critic_log(recording: Recording) -> CriticLog:
    """Read them."""
    return CriticLog(
        tuple(
            Critic(
                root=event["place"][0],
                path=event["place"][1],
                generator=event["generator"][0],
                cut=tuple(event["cut"]),
                through=tuple(event["through"]),
                real=_range(event["real"]),
                made=_range(event["made"]),
                source=source(event["line"]),
                cuts=tuple(sources(event["cuts"])),
            )
            for event in recording.some("critic", "no model judges what another one makes")
        )
    )


def _range(bounds: list[float] | None) -> tuple[float, float] | None:
    return (bounds[0], bounds[1]) if bounds else None
