"""Whether outputs depend on how much padding stands behind the real positions."""

from __future__ import annotations

from typing import Any

import torch

from doctor.observe.metamorphic.call import Outputs
from doctor.observe.metamorphic.layout import leading_padding, per_position
from doctor.observe.metamorphic.session import Session, spread
from doctor.observe.metamorphic.trace import Trace, Traced

_RECURRENT = (
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "mkldnn_rnn_layer",
    "_thnn_fused_lstm_cell",
    "_thnn_fused_gru_cell",
)


def invariance(session: Session) -> dict[str, Any] | None:
    """The shorter samples alone, with all their padding and with less: their outputs should be the same."""
    padding, samples = session.padding, session.samples
    if samples is not None and samples.axis:
        return None
    if padding is None:
        return _before(session)
    rows, length = padding.field.value.shape[:2]
    order = padding.lengths.argsort()
    chosen = order[: max(2, len(order) // 2)]
    lengths = padding.lengths[chosen]
    short = max(2, int(lengths.max()))
    if length - short < max(2, length // 8):
        return None
    whole, cut = {}, {}
    for field in session.call.fields:
        value = field.value
        if not value.dim():
            continue  # a count, as the Trainer of transformers hands one to its models
        if value.layout is not torch.strided or value.shape[0] != rows:
            return None
        whole[field.index] = value[chosen]
        part = value[chosen]
        for axis in range(1, value.dim()):
            if value.shape[axis] == length and (axis == 1 or not value.is_floating_point() or "mask" in field.name):
                part = part.narrow(axis, 0, short)
        cut[field.index] = part
    trace = Trace(session.recorder.frames, keep=False)
    full = session.run(whole, watching=trace)
    others = {f.value.shape[1] for f in session.call.fields if f.value.dim() > 1} - {length, length - 1}
    effect = _effect(full, session.run(cut), lengths, length, short, others)
    if effect is None:
        return None
    scores = [op for op in _scores(trace, length) if op.inputs]
    open_scores = [op for op in scores if not _hides(op, lengths)]
    pooled = next((op for op in trace.ops if op.name == "mean" and op.shapes and length in op.shapes[0][1:]), None)
    return {
        "field": padding.field.name,
        "value": padding.value,
        "padded_share": float((padding.lengths < length).double().mean()),
        "leading": False,
        "removed": length - short,
        "length": length,
        "attention": len(scores),
        "unmasked": len(open_scores),
        "cause": session.place(open_scores[0]) if open_scores else None,
        "pooling": session.place(pooled) if pooled is not None else None,
        "mask_passed": [field.name for field in session.call.fields if "mask" in field.name.lower()],
        **effect,
    }


def _before(session: Session) -> dict[str, Any] | None:
    """Padding before the real positions, replaced by other ids: positions count from the left, so that nothing is cut."""
    padding = leading_padding(session.call)
    if padding is None or any(op.name in _RECURRENT for op in session.trace.ops):
        return None  # a recurrent state passes through padding in many a sound model
    value = padding.field.value
    rows, length = value.shape
    blank = torch.arange(length, device=value.device)[None] < (length - padding.lengths)[:, None]
    real = value[~blank]
    other = real[torch.arange(value.numel(), device=value.device) % len(real)].reshape(value.shape)
    trace = Trace(session.recorder.frames, keep=False)
    full = session.run({}, watching=trace)
    changed = session.run({padding.field.index: torch.where(blank, other, value)})
    scores = [op for op in _scores(trace, length) if op.inputs]
    seen = [op for op in scores if not _hides(op, padding.lengths, leading=True)]
    if not seen:
        return None  # a mask that is made of the ids lets the other ids through
    for (_, old), (_, new) in zip(full.tensors, changed.tensors, strict=False):
        a, b = per_position(old, rows, length), per_position(new, rows, length)
        scale = spread(old)
        if a is None or b is None or a.shape[1] != length or scale <= 0:
            continue
        change = (b - a).double().square().reshape(rows, length, -1).mean(2).sqrt()[~blank]
        return {
            "field": padding.field.name, "value": padding.value, "leading": True, "removed": int(blank.sum(1).max()),
            "padded_share": float((padding.lengths < length).double().mean()), "length": length,
            "attention": len(scores), "unmasked": len(seen), "cause": session.place(seen[0]),
            "pooling": None, "mask_passed": [f.name for f in session.call.fields if "mask" in f.name.lower()],
            "effect": float(change.median()) / scale, "pooled": False,
        }  # fmt: skip
    return None


def _effect(
    full: Outputs, cut: Outputs, lengths: torch.Tensor, length: int, short: int, others: set[int]
) -> dict[str, Any] | None:
    """`others` are the lengths of fields that were not cut: an output along one of them is a decoder's."""
    rows = len(lengths)
    for (_, old), (_, new) in zip(full.tensors, cut.tensors, strict=False):
        whole = old.dim() <= 2 or old.shape[1] in others
        if old.shape == new.shape and old.shape[0] == rows and whole:
            scale = spread(old)
            change = (new - old).double().square().reshape(rows, -1).mean(1).sqrt()
            return {"effect": float(change.median()) / scale, "pooled": True} if scale > 0 else None
        a, b = per_position(old, rows, length), per_position(new, rows, short)
        if a is None or b is None or a.shape[1] == b.shape[1]:
            continue
        steps = b.shape[1]
        real = torch.arange(steps, device=lengths.device)[None] < lengths[:, None]
        scale = spread(a)
        change = (b - a[:, :steps]).double().square().reshape(rows, steps, -1).mean(2).sqrt()[real]
        if scale > 0 and len(change):
            return {"effect": float(change.median()) / scale, "pooled": False}
    return None


def _scores(trace: Trace, length: int) -> list[Traced]:
    return [
        op
        for op in trace.ops
        if op.name in ("_softmax", "_safe_softmax") and len(op.shapes[0]) >= 3 and op.shapes[0][-1] == length
        and op.shapes[0][-2] > 1
    ]  # fmt: skip


def _hides(op: Traced, lengths: torch.Tensor, leading: bool = False) -> bool:
    """Whether the scores of padded positions are far below all others, or the positions see nothing after themselves."""
    scores = op.inputs[0]
    rows, length = len(lengths), scores.shape[-1]
    if scores.dim() == 3 and scores.shape[0] % rows == 0:
        scores = scores.reshape(rows, scores.shape[0] // rows, *scores.shape[1:])
    if scores.shape[0] != rows:
        return True  # of another layout: nothing can be said
    for row, real in enumerate(lengths.tolist()):
        if real >= length:
            continue
        square = scores.shape[-2] == length
        if leading:
            hidden = scores[row][..., length - real :, : length - real] if square else scores[row][..., : length - real]
        else:
            hidden = scores[row][..., :real, real:] if square else scores[row][..., real:]
        if hidden.numel() and float(hidden.max()) > -1e3:
            return False
    return True
