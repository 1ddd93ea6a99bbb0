"""What each optimizer was given, how it was called, and which gradients its steps used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class OptimizerRecord:
    """One optimizer object.

    `carried` holds, for each of its steps after the first, the share of its parameters whose gradient was not
    cleared between its previous step and this one (1.0: nothing was cleared). `settings` are the defaults of its
    first group (`lr`, `momentum`, `betas` ...). `parameters` are names from `ModuleTree` (`""` root prefix left
    out); tensors that belong to no module are named `<tensor 64x32 at train.py:12>`.
    `steps_without_gradient` counts steps at which no parameter had a gradient, `discarded` backwards whose gradients
    were cleared before any optimizer stepped, `fresh_steps` steps that use the gradients of a backward as it left them.
    """

    index: int
    kind: str
    parameters: tuple[str, ...]
    settings: Mapping[str, float | str | bool | None] = field(default_factory=dict)
    groups: int = 1
    created: Source | None = None
    step_source: Source | None = None
    zero_grad_source: Source | None = None
    backward_source: Source | None = None
    steps: int = 0
    zero_grads: int = 0
    discarded: int = 0
    fresh_steps: int = 0
    backwards_per_step: float = 1.0
    carried: tuple[float, ...] = ()
    steps_without_gradient: int = 0
    created_at_step: int = 0
    setting_sources: Mapping[str, Source] = field(default_factory=dict)

    def source_of(self, *settings: str) -> Source | None:
        """The line of the first of these keywords in the call that makes the optimizer, else the call itself; for an
        optimizer of the Trainer of transformers, that of its TrainingArguments.
        """
        found = [self.setting_sources[name] for name in settings if name in self.setting_sources]
        return found[0] if found else self.setting_sources.get("", self.created)

    def longest_carried_run(self, share: float) -> int:
        """Most steps in a row at which at least `share` of the parameters kept the old gradient."""
        longest = current = 0
        for value in self.carried:
            current = current + 1 if value >= share else 0
            longest = max(longest, current)
        return longest


@dataclass(frozen=True)
class MissedParameter:
    """A tensor that the loss reaches and no optimizer steps."""

    name: str
    shape: tuple[int, ...]
    in_model: bool
    requires_grad: bool = True
    source: Source | None = None
    module: str = ""


@dataclass(frozen=True)
class OptimizerLog(Evidence):
    """All optimizers, the schedulers' kinds, and the tensors that none of them was given.

    `missed` are leaf tensors that require a gradient, were reached by a backward and are held by no optimizer.
    `backwards` counts calls of backward, `steps` calls of step, `clips` calls of clip_grad_norm_/value_.
    """

    optimizers: tuple[OptimizerRecord, ...] = ()
    missed: tuple[MissedParameter, ...] = ()
    schedulers: tuple[str, ...] = ()
    backwards: int = 0
    steps: int = 0
    clips: int = 0
    backward_source: Source | None = None
    # share of all observed backwards since the previous step of any optimizer; see TrainingTrace for the rest
    manual_updates: int = 0

    def parameter_names(self) -> frozenset[str]:
        """Names of every parameter that some optimizer holds."""
        return frozenset(name for optimizer in self.optimizers for name in optimizer.parameters)


@probe
def optimizer_log(recording: Recording) -> OptimizerLog:
    """Read what each optimizer was given and how it was called."""
    described = {event["index"]: event for event in recording.of("optimizer")}
    steps: dict[int, list[dict[str, Any]]] = {}
    for event in recording.of("step"):
        steps.setdefault(event["optimizer"], []).append(event)
    records = []
    for end in recording.of("optimizer-end"):
        head, own = described.get(end["index"], {}), steps.get(end["index"], [])
        records.append(
            OptimizerRecord(
                index=end["index"],
                kind=end["kind"],
                parameters=tuple(head.get("parameters", ())),
                settings=head.get("settings", {}),
                groups=head.get("groups", 1),
                created=source(end["created"]),
                step_source=source(end["step_source"]),
                zero_grad_source=source(end["zero_grad_source"]),
                backward_source=source(end["backward_source"]),
                steps=end["steps"],
                zero_grads=end["zero_grads"],
                discarded=end.get("discarded", 0),
                fresh_steps=end.get("fresh_steps", 0),
                backwards_per_step=sum(step["backwards"] for step in own) / len(own) if own else 0.0,
                carried=tuple(step["carried"] for step in own if step["carried"] is not None),
                steps_without_gradient=sum(step["held"] == 0 for step in own),
                created_at_step=head.get("created_at_step", 0),
                setting_sources={
                    name: line for name, at in end.get("setting_lines", {}).items() if (line := source(at)) is not None
                },
            )
        )
    end = recording.end
    strays = {event["index"] for event in recording.of("root") if event["inside"] is not None}
    if not records and not end.get("backwards"):
        raise Unavailable("the program has no optimizer and made no backward")
    return OptimizerLog(
        optimizers=tuple(records),
        missed=tuple(_missed(event, strays) for event in recording.of("parameter") if _is_missed(event)),
        schedulers=tuple(end.get("schedulers", ())),
        backwards=end.get("backwards", 0),
        steps=end.get("steps", 0),
        clips=end.get("clips", 0),
        backward_source=source((end.get("sources") or {}).get("backward")),
        manual_updates=end.get("manual_updates", 0),
    )


def _is_missed(event: dict[str, Any]) -> bool:
    return bool(event["reached"] and event["requires_grad"] and event["optimizer"] is None)


def _missed(event: dict[str, Any], strays: set[int]) -> MissedParameter:
    return MissedParameter(
        name=event["name"],
        shape=tuple(event["shape"]),
        in_model=event["registered"] and event["root"] not in strays,
        source=source(event["created"]),
        module=event["module"],
    )
