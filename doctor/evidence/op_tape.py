"""The op tape: every aten operation of a few sampled steps, with its line, its module and its data flow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class TensorNote:
    """One tensor on the tape. `id` is the same for the same contents (an in-place op makes a new one).

    `requires_grad` is what autograd said when the tensor was *used*; for an output nobody used it is None.
    `minimum`/`maximum` are exact (NaN when any element is), None when not measured.
    """

    id: int
    shape: tuple[int, ...]
    dtype: str
    requires_grad: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    parameter: str | None = None

    @property
    def floating(self) -> bool:
        """Whether gradients could flow through it."""
        return self.dtype.startswith(("float", "bfloat", "complex"))


@dataclass(frozen=True)
class Op:
    """One recorded operation, e.g. `name="_softmax"`, `overload="default"`.

    `phase` is `forward`, `backward` or `update` (between the last backward and the end of optimizer.step).
    `arguments` are the non-tensor arguments by schema name where they are numbers, strings or lists of integers.
    `module` is the path of the innermost running module, `module_kind` its class, `training` its mode.
    `source` is the user's innermost line; for a backward op that of the forward op, where known.
    """

    index: int
    name: str
    inputs: tuple[TensorNote, ...]
    outputs: tuple[TensorNote, ...]
    overload: str = ""
    phase: str = "forward"
    module: str = ""
    module_kind: str = ""
    root: int | None = None
    source: Source | None = None
    arguments: Mapping[str, float | str | bool | tuple[int, ...] | None] = field(default_factory=dict)
    grad_enabled: bool = True

    @property
    def output(self) -> TensorNote | None:
        """The first output."""
        return self.outputs[0] if self.outputs else None


@dataclass(frozen=True)
class Tape:
    """The operations of one sampled step, in order. `loss` is the tensor id on which backward was called."""

    step: int
    ops: tuple[Op, ...]
    loss: int | None = None
    truncated: bool = False

    @cached_property
    def forward(self) -> tuple[Op, ...]:
        """The forward operations."""
        return tuple(op for op in self.ops if op.phase == "forward")

    @cached_property
    def _producer(self) -> dict[int, Op]:
        producers: dict[int, Op] = {}
        for op in self.forward:
            for note in op.outputs:
                producers.setdefault(note.id, op)
        return producers

    @cached_property
    def _consumers(self) -> dict[int, list[Op]]:
        consumers: dict[int, list[Op]] = {}
        for op in self.forward:
            for note in op.inputs:
                consumers.setdefault(note.id, []).append(op)
        return consumers

    def producer(self, tensor: int) -> Op | None:
        """The forward op that made this tensor; None for an input of the step (parameter, batch)."""
        return self._producer.get(tensor)

    def consumers(self, tensor: int) -> tuple[Op, ...]:
        """The forward ops that read this tensor, in order."""
        return tuple(self._consumers.get(tensor, ()))

    def upstream(self, op: Op, through: Iterable[str] | None = None) -> Iterator[Op]:
        """Forward ops from which `op`'s inputs were computed, nearest first, breadth first.

        With `through`, only paths whose intermediate ops have one of these names are followed
        (the ops at the far end are still yielded).
        """
        allowed = frozenset(through) if through is not None else None
        queue = deque(note.id for note in op.inputs)
        seen: set[int] = set()
        while queue:
            producer = self.producer(queue.popleft())
            if producer is None or producer.index in seen or producer.index >= op.index:
                continue
            seen.add(producer.index)
            yield producer
            if allowed is None or producer.name in allowed:
                queue.extend(note.id for note in producer.inputs)

    def named(self, *names: str) -> tuple[Op, ...]:
        """The forward ops with one of these names."""
        return tuple(op for op in self.forward if op.name in names)


@dataclass(frozen=True)
class OpTape(Evidence):
    """The tapes of the sampled steps, in order."""

    tapes: tuple[Tape, ...] = ()

    @property
    def first(self) -> Tape:
        """The first complete tape."""
        return next((tape for tape in self.tapes if not tape.truncated), self.tapes[0])


@probe
def op_tape(recording: Recording) -> OpTape:
    """Read the tapes."""
    if recording.end.get("compiled"):
        raise Unavailable("the program uses torch.compile, whose compiled steps are not taped")
    events = recording.some("tape", "no complete training step was seen")
    return OpTape(tuple(_tape(event) for event in events))


def _tape(event: dict[str, Any]) -> Tape:
    ops = tuple(_op(index, raw) for index, raw in enumerate(event["ops"]))
    return Tape(event["step"], ops, event["loss"], event["truncated"])


def _op(index: int, raw: dict[str, Any]) -> Op:
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in raw["args"].items()}
    return Op(
        index=index,
        name=raw["name"],
        inputs=tuple(_tensor(note) for note in raw["in"]),
        outputs=tuple(_tensor(note) for note in raw["out"]),
        overload=raw["overload"],
        phase=raw["phase"],
        module=raw.get("module", ""),
        module_kind=raw.get("kind", ""),
        root=raw.get("root"),
        source=source(raw.get("line")),
        arguments=arguments,
        grad_enabled=raw["grad"],
    )


def _tensor(note: dict[str, Any]) -> TensorNote:
    return TensorNote(
        id=note["id"],
        shape=tuple(note["shape"]),
        dtype=note["dtype"],
        requires_grad=note.get("rg"),
        minimum=note.get("min"),
        maximum=note.get("max"),
        parameter=note.get("parameter"),
    )
