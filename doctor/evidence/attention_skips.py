"""Attention layers in a row, and whether a sum leads what they read around them."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.call_log import CallLog
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.probes import probe

_FUSED = "_scaled_dot_product"
_JOINS = ("add", "mul", "cat", "lerp", "sub")
_MAPS = ("addmm", "mm")
_PROJECTIONS = 4  # of queries, keys, values and the result
_NEAR = 8  # operations of one operand between two marks: views, masks, dropout, norms


@dataclass(frozen=True)
class Attention:
    """One attention by products of queries and keys. `skipped` when a later sum (product, concatenation) of its result
    with something that it was computed from stands on the tape. `source` is the line that calls it.
    """

    module: str
    root: int | None
    skipped: bool
    source: Source | None = None


@dataclass(frozen=True)
class AttentionSkips(Evidence):
    """The longest row of attentions that each read what the one before has written."""

    row: tuple[Attention, ...] = ()


@probe
def attention_skips(tape: OpTape, calls: CallLog | None) -> AttentionSkips:
    """Follow the taped forward."""
    first = tape.first
    found = [op for op in (_attention(first, op) for op in first.forward) if op is not None]
    above = {op.index: {other.index for other in first.upstream(op)} for op in found}
    rows: dict[int, list[Op]] = {}
    for op in found:
        before = [rows[other.index] for other in found if other.index in above[op.index]]
        rows[op.index] = [*max(before, key=len, default=[]), op]
    longest = max(rows.values(), key=len, default=[])
    return AttentionSkips(
        tuple(Attention(op.module, op.root, _is_skipped(first, op), _called(first, op, calls)) for op in longest)
    )


def _attention(tape: Tape, op: Op) -> Op | None:
    """The operation that weighs the values, if `op` is the softmax of (or all of) an attention by products."""
    if not op.grad_enabled or not op.outputs:
        return None
    if op.name.startswith(_FUSED):
        return op
    if op.name not in ("_softmax", "_safe_softmax") or not op.inputs or not _comes_from_product(tape, op.inputs[0]):
        return None
    queue, seen = [op.outputs[0].id], 0
    while queue and seen < 4 * _NEAR:
        for user in tape.consumers(queue.pop(0)):
            seen += 1
            if user.name in ("bmm", "mm", "baddbmm"):
                return user if _computed(user) >= 2 else None
            if _computed(user) == 1 and user.outputs:
                queue.append(user.outputs[0].id)
    return None


def _comes_from_product(tape: Tape, note: TensorNote) -> bool:
    for _ in range(_NEAR):
        op = tape.producer(note.id)
        if op is None:
            return False
        if op.name in ("bmm", "baddbmm"):
            return _computed(op) >= 2
        grown = [n for n in op.inputs if _is_computed(n)]
        if len(grown) != 1:
            return False
        note = grown[0]
    return False


def _is_computed(note: TensorNote) -> bool:
    return bool(note.requires_grad) and note.parameter is None


def _computed(op: Op) -> int:
    return sum(map(_is_computed, op.inputs))


def _is_skipped(tape: Tape, attention: Op) -> bool:
    before = {note.id for op in tape.upstream(attention) for note in (*op.inputs, *op.outputs) if not note.parameter}
    before |= {note.id for note in attention.inputs}
    after = {note.id for note in attention.outputs}
    for op in tape.forward:
        if op.index <= attention.index or not any(note.id in after for note in op.inputs):
            continue
        others = [note for note in op.inputs if note.id not in after and _is_computed(note)]
        if op.name in _JOINS and any(_stems_from(tape, note, before) for note in others):
            return True
        after.update(note.id for note in op.outputs)
    return False


def _stems_from(tape: Tape, note: TensorNote, before: set[int]) -> bool:
    """Whether a tensor is, or is a map of one operand of, something that the attention was computed from."""
    for _ in range(2 * _NEAR):
        if note.id in before:
            return True
        op = tape.producer(note.id)
        grown = [n for n in op.inputs if _is_computed(n)] if op is not None else []
        if len(grown) != 1:
            return False
        note = grown[0]
    return False


def _called(tape: Tape, attention: Op, calls: CallLog | None) -> Source | None:
    """The line that calls the module of the attention; its own line, where it stands in a whole block's forward."""
    inside = (attention.module, f"{attention.module}.")
    maps = [op for op in tape.named(*_MAPS) if op.module == inside[0] or op.module.startswith(inside[1])]
    made = calls.of(attention.module, attention.root or 0) if calls is not None and attention.module else ()
    if made and len(maps) <= _PROJECTIONS and made[0].source is not None:
        return made[0].source
    return attention.source
