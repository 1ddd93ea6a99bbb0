"""Whether the order of the positions matters to the model at all."""

from __future__ import annotations

from typing import Any

import torch

from doctor.observe.metamorphic.layout import main_field, per_position
from doctor.observe.metamorphic.session import Session, replaced, spread


def blindness(session: Session) -> dict[str, Any] | None:
    """The token ids of every sample are dealt out anew: outputs that follow them, or stay, know no order."""
    field = main_field(session.call)
    if field is None or field.value.is_floating_point() or field.value.dim() != 2 or field.value.dtype is torch.bool:
        return None
    axis = session.next_step[0].axis if session.next_step else 1
    if session.next_step:
        field = session.next_step[0].field
    rows, length = field.value.shape[1 - axis], field.value.shape[axis]
    if (session.samples is not None and session.samples.axis == axis) or length < 4 or axis != 1:
        return None
    attention = session.attends(length)
    if not attention or _own_ids(field.value):
        return None
    end = length if session.padding is None else int(session.padding.lengths.min())
    if end < 4:
        return None
    causal = bool(session.next_step)
    # In a causal model earlier outputs see fewer positions: only the last one must stay, and it keeps its own token.
    moved = end - 1 if causal else end
    order = torch.cat([torch.arange(moved).flip(0).roll(1), torch.arange(moved, length)]).to(field.value.device)
    others = {f.index: f.value for f in session.call.fields if f.index != field.index and _types(f.name)}
    changes = {field.index: field.value[:, order]} | {index: value[:, order] for index, value in others.items()}
    after = session.run(changes)
    for (_, old), (_, new) in zip(session.outputs.tensors, after.tensors, strict=False):
        if old.shape != new.shape:
            continue
        a, b = per_position(old, rows, length), per_position(new, rows, length)
        if a is not None and b is not None and a.shape[1] == length:
            wanted, got, where = (a[:, end - 1], b[:, end - 1], True) if causal else (a[:, order], b, True)
        elif old.shape[0] == rows and old.dim() <= 2:
            wanted, got, where = old, new, False
        else:
            continue
        scale = spread(old)
        if scale <= 0:
            return None
        effect = float((got - wanted).double().square().mean().sqrt()) / scale
        mixes = effect < 1e-4 and _mixes(session, field.index, field.value, end, scale)
        embedded = next((op for op in session.trace.ops if op.name == "embedding" and op.line), None)
        return {
            "field": field.name,
            "length": length,
            "effect": effect,
            "per_position": where,
            "causal": causal,
            "mixes": mixes,
            "embedding": session.place(embedded) if embedded else None,
        }
    return None


def _types(name: str) -> bool:
    return "token_type" in name


def _own_ids(value: torch.Tensor) -> bool:
    """Whether every position has ids of its own, as the columns of a table have."""
    sets = [set(value[:, column].tolist()) for column in range(min(8, value.shape[1]))]
    return sum(len(part) for part in sets) == len(set().union(*sets)) and len(sets) > 1


def _mixes(session: Session, index: int, value: torch.Tensor, end: int, scale: float) -> bool:
    """Whether the output at the last position depends on the first half at all."""
    half = max(1, end // 2)
    if value.shape[0] < 2:
        return False
    after = session.run({index: replaced(value, 1, slice(0, half), value[:, :half].roll(1, 0))})
    for (_, old), (_, new) in zip(session.outputs.tensors, after.tensors, strict=False):
        a, b = (per_position(tensor, *value.shape) for tensor in (old, new))
        if a is not None and b is not None:
            return float((b - a)[:, end - 1].abs().max()) > 1e-3 * scale
        if old.shape == new.shape:
            return float((new - old).abs().max()) > 1e-3 * scale
    return False
