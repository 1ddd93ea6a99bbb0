"""Where parameters were registered, what states were loaded, and which parameters stand in two places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source, sources
from doctor.probes import probe


@dataclass(frozen=True)
class Tie:
    """A parameter that was registered a second time in another module; `holds` when both still have it at the end."""

    names: tuple[str, str]
    kinds: tuple[str, str]
    source: Source | None = None
    holds: bool = True


@dataclass(frozen=True)
class Registrations(Evidence):
    """`lines` are the user's lines by parameter name, `loads` those that loaded a state."""

    lines: Mapping[str, Source] = field(default_factory=dict)
    loads: tuple[Source, ...] = ()
    ties: tuple[Tie, ...] = ()


@probe
def registrations(recording: Recording) -> Registrations:
    """Read registrations and ties."""
    event = recording.some("registrations", "registrations of parameters were not watched")[-1]
    found = {name: source(line) for name, line in event["lines"].items()}
    return Registrations(
        lines={name: line for name, line in found.items() if line is not None},
        loads=tuple(sources(event["loads"])),
        ties=tuple(
            Tie(
                (raw["names"][0], raw["names"][1]),
                (raw["kinds"][0], raw["kinds"][1]),
                source(raw["line"]),
                raw["holds"],
            )
            for raw in recording.of("tie")
            if raw["both_live"]
        ),
    )
