"""Whether parameters follow their gradients, and where gradients become zero."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class ParameterUpdates:
    """One parameter over the sampled steps: `pulled` by a gradient, `still` all the same, `moved`, `restored` to the
    value from before the step when the next step began (all counts of steps).
    """

    name: str
    sampled: int
    pulled: int = 0
    still: int = 0
    moved: int = 0
    restored: int = 0


@dataclass(frozen=True)
class GroupRate:
    """The highest learning rate that a parameter group had; `with_gradient` counts early steps that pulled it."""

    optimizer: int
    group: int
    highest: float
    steps: int
    names: tuple[str, ...]
    elements: int = 0
    with_gradient: int = 0


@dataclass(frozen=True)
class GradientEnd:
    """A node of the second backward that took a gradient and gave on nothing but zeros."""

    node: str
    source: Source | None = None
    module: str = ""
    operation: str = ""


@dataclass(frozen=True)
class UpdateLog(Evidence):
    """Parameters, groups and ends of gradients."""

    parameters: tuple[ParameterUpdates, ...] = ()
    groups: tuple[GroupRate, ...] = ()
    ends: tuple[GradientEnd, ...] = ()


@probe
def update_log(recording: Recording) -> UpdateLog:
    """Read the updates."""
    facts = ("name", "sampled", "pulled", "still", "moved", "restored")
    rates = ("optimizer", "group", "highest", "steps", "elements", "with_gradient")
    return UpdateLog(
        parameters=tuple(
            ParameterUpdates(**{name: event[name] for name in facts})
            for event in recording.some("update", "no optimizer step was sampled")
        ),
        groups=tuple(
            GroupRate(names=tuple(event["names"]), **{name: event[name] for name in rates})
            for event in recording.of("group-rate")
        ),
        ends=tuple(
            GradientEnd(e["node"], source(e.get("line")), e.get("module", ""), e.get("op", ""))
            for e in recording.of("gradient-end")
        ),
    )
