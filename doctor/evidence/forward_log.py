"""Forwards with gradients: in which mode each ran, which backwards used its graph, and which graphs outlive their step."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Event, Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class Forward:
    """One call of a model with gradients enabled whose output needs a gradient.

    `used` are the optimizer steps during which a backward (or `autograd.grad`) ran through it. `sensitive` counts its
    dropout and batch normalisation layers, `asleep` those in eval mode; `slept` is the line of the latest `eval()` and
    `evaluated_since` the forwards without gradients since then. `held` is how many graphs of this line that no
    backward had used were alive when it returned.
    """

    root: int
    step: int
    source: Source | None = None
    kind: str = ""
    backward: int = 0
    training: bool = True
    sensitive: int = 0
    asleep: int = 0
    fresh_norms: bool = False
    norms_only: bool = False
    slept: Source | None = None
    evaluated_since: int = 0
    used: tuple[int, ...] = ()
    held: int = 0

    @property
    def sleeps(self) -> bool:
        """Whether everything that depends on the mode was in eval mode."""
        return not self.training and self.sensitive > 0 and self.asleep == self.sensitive


@dataclass(frozen=True)
class Holder:
    """A variable of the user's that keeps graphs, and the line that feeds it."""

    name: str
    source: Source | None


@dataclass(frozen=True)
class TwiceRun:
    """A backward through a loss on which backward had already been called since the last step."""

    step: int
    first: Source | None
    second: Source | None
    same: bool


@dataclass(frozen=True)
class ForwardLog(Evidence):
    """All forwards in order. `alive` are, by step, the graphs older than two steps that were still there; `through`
    is the first backward that reached a graph which an earlier step had already used.
    """

    forwards: tuple[Forward, ...] = ()
    alive: tuple[int, ...] = ()
    holder: Holder | None = None
    through: Holder | None = None
    through_source: Source | None = None
    through_forwards: int = 0
    twice: tuple[TwiceRun, ...] = ()

    def trained(self, root: int) -> tuple[Forward, ...]:
        """The forwards of a root that a backward used."""
        return tuple(f for f in self.forwards if f.root == root and f.used)

    def roots(self) -> tuple[int, ...]:
        """Roots by first use."""
        return tuple(dict.fromkeys(f.root for f in self.forwards))

    def longest_growth(self) -> int:
        """Most graphs added in a row of steps none of which let one go."""
        best = run = 0
        for before, after in zip(self.alive, self.alive[1:], strict=False):
            run = run + after - before if after > before else (run if after == before and run else 0)
            best = max(best, run)
        return best


@probe
def forward_log(recording: Recording) -> ForwardLog:
    """Read forwards and graphs."""
    events = recording.some("graphs", "graphs were not watched")
    plain = ("root", "step", "kind", "backward", "training", "sensitive", "asleep", "fresh_norms", "norms_only",
             "evaluated_since", "held")  # fmt: skip
    forwards = tuple(
        Forward(
            source=source(event["line"]),
            slept=source(event["slept"]),
            used=tuple(event["used"]),
            **{name: event[name] for name in plain},
        )
        for event in recording.of("forward")
    )
    last = events[-1]
    through = last["through"] or {}
    return ForwardLog(
        forwards=forwards,
        alive=tuple(count for _, count in last["grown"]),
        holder=_holder(last["holder"]),
        through=_holder(through.get("holder")),
        through_source=source(through.get("line")),
        through_forwards=through.get("forwards", 0),
        twice=tuple(TwiceRun(t["step"], source(t["first"]), source(t["second"]), t["same"]) for t in last["twice"]),
    )


def _holder(raw: Event | None) -> Holder | None:
    return Holder(raw["name"], source(raw["line"])) if raw else None
