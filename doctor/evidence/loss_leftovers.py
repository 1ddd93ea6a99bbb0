"""What never became part of the loss: terms that were computed and left out, samples whose scale nothing bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from doctor.evidence.base import Source
from doctor.evidence.op_tape import Op, Tape, TensorNote

# A term's value passes these unchanged, up to a positive factor or its shape.
SAME = frozenset({"view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "alias", "clone", "_to_copy", "expand",
                   "detach", "contiguous", "_reshape_alias", "lift_fresh", "t", "transpose", "permute"})  # fmt: skip
_LAYERS = frozenset({"addmm", "convolution", "mm", "bmm"})
_NOISE = frozenset({"randn", "randn_like", "normal", "normal_functional"})


@dataclass(frozen=True)
class UnusedTerm:
    """A scalar that was computed with gradients and is no part of the loss; `lost` parameters depend on it alone."""

    operation: str
    source: Source | None
    lost: tuple[str, ...] = ()
    used: bool = False


@dataclass(frozen=True)
class LooseSample:
    """A random sample whose scale the model computes, and which is all that the scale is used for."""

    source: Source | None
    scale_source: Source | None


def maker(tape: Tape, tensor: int) -> Op | None:
    """The operation that made a tensor; None for what came into the step, also under another handle."""
    op = tape.producer(tensor)
    return None if op is None or any(note.id == tensor for note in op.inputs) else op


def _above(tape: Tape, loss: int) -> set[int]:
    """Indices of the operations that the loss was computed from."""
    found: set[int] = set()
    queue = [loss]
    while queue:
        op = maker(tape, queue.pop())
        if op is not None and op.index not in found:
            found.add(op.index)
            queue.extend(note.id for note in op.inputs)
    return found


def unused_terms(tape: Tape) -> Iterator[UnusedTerm]:
    """Scalars with parameters above them, which nothing of the loss was computed from."""
    if tape.loss is None:
        return
    inside = _above(tape, tape.loss)
    flows = _flows(tape)
    reached = flows.get(tape.loss, frozenset())
    for op in tape.forward:
        if op.index in inside or not op.grad_enabled or not op.outputs or op.outputs[0].shape != ():
            continue
        note = op.outputs[0]
        above = flows.get(note.id, frozenset())
        if not above or not note.floating or not any(used.requires_grad for used in op.inputs):
            continue
        consumers = [c for c in tape.consumers(note.id) if c.name not in ("_local_scalar_dense", "detach")]
        if any(c.outputs and c.outputs[0].shape == () and c.index not in inside for c in consumers):
            continue  # part of a larger one
        yield UnusedTerm(op.name, op.source, tuple(sorted(above - reached)), bool(tape.consumers(note.id)))


def _flows(tape: Tape) -> dict[int, frozenset[str]]:
    flows: dict[int, frozenset[str]] = {}
    for op in tape.forward:
        above: frozenset[str] = frozenset()
        for note in op.inputs:
            if note.parameter and note.requires_grad:
                above |= {note.parameter}
            elif note.requires_grad:
                above |= flows.get(note.id, frozenset())
        for note in op.outputs:
            flows[note.id] = above | flows.get(note.id, frozenset())
    return flows


def loose_samples(tape: Tape) -> Iterator[LooseSample]:
    """Mean + noise * scale, where neither mean nor scale is used for anything else on the way to the loss."""
    if tape.loss is None:
        return
    inside = _above(tape, tape.loss)
    for op in tape.named("mul", "addcmul"):
        if op.index not in inside or len(op.inputs) < 2:
            continue
        noise = [position for position, note in enumerate(op.inputs[-2:]) if _is_noise(tape, note)]
        if len(noise) != 1:
            continue
        scale = op.inputs[-2:][1 - noise[0]]
        raw = _origin_of_scale(tape, scale)
        if raw is None or not scale.requires_grad:
            continue
        made_by = maker(tape, raw.id)
        if _decoded(tape, op, inside) and _used_once(tape, raw, op, inside):
            yield LooseSample(op.source, made_by.source if made_by else None)
            return


def _is_noise(tape: Tape, note: TensorNote) -> bool:
    op = maker(tape, note.id)
    return op is not None and op.name in _NOISE and len(note.shape) >= 2


def _origin_of_scale(tape: Tape, note: TensorNote) -> TensorNote | None:
    """The log-variance (or raw scale) of a sample, as a layer gave it: exp or softplus stands between."""
    positive = False
    for _ in range(8):
        op = maker(tape, note.id)
        if op is None or not op.inputs:
            return None
        if op.name in ("exp", "softplus", "sqrt", "sigmoid"):
            positive = True
        elif op.name not in ("mul", "div", "add", "clamp", "clamp_min", *SAME):
            return note if positive and op.name in (*_LAYERS, "split", "split_with_sizes", "slice") else None
        if sum(bool(other.requires_grad) for other in op.inputs) != 1:
            return None
        note = next(other for other in op.inputs if other.requires_grad)
    return None


def _decoded(tape: Tape, sample: Op, inside: set[int]) -> bool:
    """Whether a layer with parameters stands between the sample and the loss."""
    queue, seen = [note.id for note in sample.outputs], set[int]()
    while queue:
        for consumer in tape.consumers(queue.pop()):
            if consumer.index in inside and consumer.index not in seen:
                seen.add(consumer.index)
                if consumer.name in _LAYERS and len(consumer.inputs) > 1:
                    return True
                queue.extend(note.id for note in consumer.outputs)
    return False


def _used_once(tape: Tape, raw: TensorNote, sample: Op, inside: set[int]) -> bool:
    """Whether everything in the loss that reads the scale does so through this sample."""
    queue = [raw.id]
    seen: set[int] = set()
    while queue:
        for consumer in tape.consumers(queue.pop()):
            if consumer.index not in inside or consumer.index in seen or consumer.index == sample.index:
                continue
            seen.add(consumer.index)
            if consumer.name not in ("exp", "softplus", "sqrt", "sigmoid", "mul", "div", "add", "clamp", "clamp_min",
                                     "randn_like", "empty_like", *SAME):  # fmt: skip
                return False
            if any(note.id == tape.loss for note in consumer.outputs):
                return False
            if consumer.outputs and consumer.outputs[0].shape != () and len(consumer.inputs) <= 2:
                others = [n for n in consumer.inputs if n.requires_grad]
                if len(others) > 1:
                    return False
                queue.extend(note.id for note in consumer.outputs)
    return True
