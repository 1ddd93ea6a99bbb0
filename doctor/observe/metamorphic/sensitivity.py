"""Inputs, and features of inputs, that change nothing."""

from __future__ import annotations

from typing import Any

import torch

from doctor.observe.metamorphic.call import Field, Outputs
from doctor.observe.metamorphic.session import Session, spread

_SEEDS = (0, 1)  # what is drawn in training mode may leave an input out once


def ignored(session: Session) -> dict[str, Any] | None:
    """Every field in turn is dealt out anew among the samples, in training mode; then every feature without gradient."""
    fields = [field for field in session.call.fields if _varies(field.value)]
    base = {seed: session.run(mode="train", seed=seed) for seed in _SEEDS}
    effects, moves = dict[str, bool](), dict[str, float]()
    for field in fields[:8]:
        changes = {field.index: field.value.roll(1, 0)}
        after = {seed: session.run(changes, mode="train", seed=seed) for seed in _SEEDS}
        effects[field.name] = any(_differs(base[seed], after[seed]) for seed in _SEEDS)
        moved = any(_differs(base[seed], after[seed], scalars=False) for seed in _SEEDS)
        moves[field.name] = max(_change(base[seed], after[seed]) for seed in _SEEDS) if moved else 0.0
    return {
        "fields": [
            {"name": field.name, "shape": list(field.value.shape), "dtype": str(field.value.dtype)[6:],
             "used": effects[field.name], "moves": moves[field.name] > 0, "change": moves[field.name],
             "mask": _is_mask(field)}
            for field in fields[:8]
        ],
        "features": _features(session, [field for field in fields[:8] if effects[field.name]]),
    }  # fmt: skip


def _varies(value: torch.Tensor) -> bool:
    if value.layout is not torch.strided or value.dim() < 1 or value.shape[0] < 2 or value.is_complex():
        return False
    return not torch.equal(value, value.roll(1, 0))


def _is_mask(field: Field) -> bool:
    if "mask" in field.name.lower() or field.value.dtype is torch.bool:
        return True
    return bool(((field.value == 0) | (field.value == 1)).all()) and not field.value.is_floating_point()


def _differs(old: Outputs, new: Outputs, scalars: bool = True) -> bool:
    pairs = [(a, b) for (_, a), (_, b) in zip(old.tensors, new.tensors, strict=False)]
    if scalars:
        pairs += list(zip(old.scalars, new.scalars, strict=False))
    if not pairs or len(old.tensors) != len(new.tensors):
        return True
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs)


def _change(old: Outputs, new: Outputs) -> float:
    """How far the first output moves on average, in spreads of it; at least a trace of it, as something has moved."""
    (_, before), (_, after) = old.tensors[0], new.tensors[0]
    if before.shape != after.shape or not before.is_floating_point() or not spread(before):
        return 1.0
    return max(1e-12, float((before - after).double().abs().mean()) / spread(before))


def _features(session: Session, fields: list[Field]) -> dict[str, Any] | None:
    """Features of the first floating field whose gradient is exactly zero and whose values change nothing."""
    field = next((f for f in fields if f.value.is_floating_point() and f.value.dim() in (2, 3, 4)), None)
    if field is None:
        return None
    axis = 1 if field.value.dim() == 4 else field.value.dim() - 1
    size = field.value.shape[axis]
    if size < 2 or size > 4096:
        return None
    gradient = session.call.gradient(field).movedim(axis, 0).reshape(size, -1)
    moved = field.value.movedim(axis, 0).reshape(size, -1)
    silent = gradient.abs().amax(1) == 0
    varying = (moved.amax(1) - moved.amin(1)) > 0
    found = (silent & varying).nonzero()[:, 0]
    if not len(found) or len(found) == size:
        return None
    index = (slice(None),) * axis + (found,)
    changed = field.value.clone()
    changed[index] = changed[index].roll(1, 0)
    if torch.equal(changed, field.value):
        return None
    for seed in _SEEDS:
        old, new = session.run(mode="train", seed=seed), session.run({field.index: changed}, mode="train", seed=seed)
        if _differs(old, new):
            return None
    cut = next(
        (op for op in session.trace.ops if op.name in ("slice", "select", "index", "narrow", "split", "unbind",
                                                       "split_with_sizes", "index_select") and op.line
         and op.shapes and op.shapes[0] == tuple(field.value.shape)), None)  # fmt: skip
    return {
        "field": field.name,
        "axis": axis,
        "size": size,
        "ignored": found.tolist()[:64],
        "count": len(found),
        "cause": session.place(cut) if cut is not None else None,
    }
