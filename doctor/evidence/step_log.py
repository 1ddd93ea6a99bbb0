"""How optimizers were made and stepped: groups, doubles, and optimizers made anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class GroupRecord:
    """One parameter group before the optimizer's first step; `norm` is that of its tensors."""

    tensors: int
    settings: Mapping[str, float | bool] = field(default_factory=dict)
    betas: tuple[float, ...] = ()
    norm: float = 0.0


@dataclass(frozen=True)
class OptimizerGroups:
    """The groups of one optimizer; `held_twice` counts entries that repeat a tensor."""

    optimizer: int
    groups: tuple[GroupRecord, ...] = ()
    held_twice: int = 0


@dataclass(frozen=True)
class OptimizerMade:
    """One construction. `step` is how many steps its predecessors over the same tensors had made, `untouched` that
    nothing but these steps had changed the tensors, `loads` the calls of load_state_dict so far.
    """

    optimizer: int
    kind: str
    source: Source | None
    step: int
    stateful: bool = True
    untouched: bool = False
    loads: int = 0


@dataclass(frozen=True)
class RepeatedStep:
    """Steps that used gradients which a step of `other` had used, with no backward between (`same` optimizer, or
    two that share `shared` tensors).
    """

    optimizer: int
    other: int
    same: bool
    count: int
    source: Source | None = None
    earlier: Source | None = None
    shared: int = 0


@dataclass(frozen=True)
class StepLog(Evidence):
    """What is known of how optimizers are made and stepped."""

    groups: tuple[OptimizerGroups, ...] = ()
    made: tuple[OptimizerMade, ...] = ()
    repeated: tuple[RepeatedStep, ...] = ()

    def of(self, optimizer: int) -> tuple[GroupRecord, ...]:
        """The groups of one optimizer."""
        return next((record.groups for record in self.groups if record.optimizer == optimizer), ())


@probe
def step_log(recording: Recording) -> StepLog:
    """Read groups, constructions and repeated steps."""
    return StepLog(
        groups=tuple(
            OptimizerGroups(
                event["optimizer"],
                tuple(
                    GroupRecord(
                        tensors=group["tensors"],
                        settings={
                            key: value for key, value in group.items() if key not in ("tensors", "betas", "norm")
                        },
                        betas=tuple(group.get("betas", ())),
                        norm=group["norm"],
                    )
                    for group in event["groups"]
                ),
                event["held_twice"],
            )
            for event in recording.of("optimizer-groups")
        ),
        made=tuple(
            OptimizerMade(
                event["optimizer"],
                event["kind"],
                source(event["line"]),
                event["step"],
                event["stateful"],
                event["untouched"],
                event["loads"],
            )
            for event in recording.of("optimizer-made")
        ),
        repeated=tuple(
            RepeatedStep(
                event["optimizer"],
                event["other"],
                event["same"],
                event["count"],
                source(event["line"]),
                source(event["earlier"]),
                event["shared"],
            )
            for event in recording.of("repeated-step")
        ),
    )
