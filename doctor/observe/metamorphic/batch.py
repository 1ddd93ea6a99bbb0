"""Whether the output of one sample depends on the other samples of its batch."""

from __future__ import annotations

from typing import Any

import torch

from doctor.observe.metamorphic.call import Outputs
from doctor.observe.metamorphic.layout import Samples
from doctor.observe.metamorphic.session import Session, replaced, spread
from doctor.observe.metamorphic.trace import Blame, blame, keeps

_FELT = 1e-3  # change of an output, relative to its spread: far above float noise
_TRACED_SHARE = 0.3  # of the samples: from here on the cause is worth two more forwards
_SCATTERS = ("index_add", "scatter_add", "scatter_reduce", "_sparse_mm", "_sparse_addmm", "sparse_mm", "mv", "spmm")


def independence(session: Session) -> dict[str, Any] | None:
    """Every second sample is replaced by the one before it: what becomes of the outputs of the others."""
    samples = session.samples
    if samples is None or samples.rows < 2 or session.call.batch_statistics:
        return None
    changes = _changes(session, samples)
    if not changes:
        return None
    kept = slice(0, samples.rows, 2)
    effect = _effect(samples, session.outputs, session.run(changes), kept)
    if effect is None:
        return None
    told = {"rows": samples.rows, "axis": samples.axis, "how": samples.how, **effect}
    if effect["share"] < _TRACED_SHARE:
        return told
    first, second = session.traced(), session.traced(changes)
    found = blame(first, second, keeps(samples.rows, kept))
    return told | {
        "connected": _connected(session, samples, found),
        "cause": session.blamed(found),
        "full_batch": len(session.recorder.captures.marks[_key(session)]) < 2,
    }


def _key(session: Session) -> tuple[int, str]:
    return session.call.capture.root, session.call.capture.path


def _changes(session: Session, samples: Samples) -> dict[int, torch.Tensor]:
    """Neighbours in pairs: lengths that must be sorted stay so, and the longest sample stays the longest."""
    changes = {}
    lost = slice(1, samples.rows, 2)
    for field in session.call.fields:
        axis = samples.axis_of(field.value) if field.value.layout is torch.strided else None
        if axis is not None:
            before = field.value[(slice(None),) * axis + (slice(0, samples.rows - 1, 2),)]
            changes[field.index] = replaced(field.value, axis, lost, before.detach().clone())
    return changes


def _effect(samples: Samples, before: Outputs, after: Outputs, kept: slice) -> dict[str, float] | None:
    """Over the first output with an axis for samples: share of the kept samples that changed, and by how much.

    Later outputs are often states (memories, hidden states) that are laid out in their own way.
    """
    for (_, old), (_, new) in zip(before.tensors, after.tensors, strict=False):
        if old.shape != new.shape:
            continue
        a, b = samples.by_row(old), samples.by_row(new)
        if a is None or b is None:
            continue
        size = a.shape[0]
        if a.dim() == 2 and a.shape[1] == size:  # each sample against each: only columns of kept samples count
            a, b = a[:, kept], b[:, kept]
        elif a.dim() == 2 and a.shape[1] in (size - 1, 2 * size, 2 * size - 1, 2 * size - 2):
            continue
        scale = spread(a)
        if scale <= 0:
            continue
        moved = (b - a)[kept].double().square()
        change = moved.reshape(len(moved), -1).mean(1).sqrt() / scale
        return {"share": float((change > _FELT).double().mean()), "effect": float(change.median())}
    return None


def _connected(session: Session, samples: Samples, found: Blame | None) -> bool:
    """Whether the samples are nodes of one graph: what they exchange is told by an adjacency."""
    rows = samples.rows
    for field in session.call.fields:
        value = field.value
        if value.layout is not torch.strided or (value.dim() == 2 and value.shape[0] == 2 and value.shape[1] > 2 and not
                                                 value.is_floating_point()):  # fmt: skip
            return True
        if value.dim() == 2 and value.shape == (rows, rows):
            return True
    for part in session.call.module.modules():
        held = [*part._buffers.values(), *(v for v in part.__dict__.values() if isinstance(v, torch.Tensor))]
        for tensor in held:
            if tensor is not None and (tensor.layout is not torch.strided or tensor.shape == (rows, rows)):
                return True
    if any(op.name in _SCATTERS for op in session.trace.ops):
        return True
    constant = () if found is None else found.constants
    return any(tensor.dim() >= 2 and tuple(tensor.shape[-2:]) == (rows, rows) for tensor in constant)
