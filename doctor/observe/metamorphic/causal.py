"""Whether the output at one position depends on later positions of the input that it has to predict."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch import nn

from doctor.observe.frames import Line
from doctor.observe.metamorphic.layout import NextStep, per_position
from doctor.observe.metamorphic.session import Session, replaced, spread
from doctor.observe.metamorphic.trace import Traced, blame, keeps

_FELT = 1e-3
_SPARE = 32  # positions by which padding for convolutions may lengthen a sequence
_MASK = re.compile(r"\b(tril|triu|tril_|triu_|generate_square_subsequent_mask)\b")
_RANDOM = ("randn_like", "normal_", "normal", "randn", "rand_like", "bernoulli", "multinomial")


def causality(session: Session) -> dict[str, Any] | None:
    """The inputs from the middle on are replaced: what becomes of the outputs before it."""
    if not session.next_step:
        return None
    found = None
    for shifted in session.next_step:
        found = _leak(session, shifted)
        if found is None or not found["leaks"]:
            return found  # one field that leaks not is the decoder's; an encoder may read everything
    return found


def _leak(session: Session, shifted: NextStep) -> dict[str, Any] | None:
    value, axis = shifted.field.value, shifted.axis
    length, cut = value.shape[axis], value.shape[axis] // 2
    changes = {shifted.field.index: replaced(value, axis, slice(cut, length), _other(value, shifted, cut))}
    after = session.run(changes)
    rows = value.shape[shifted.sample_axis]
    for (_, old), (_, new) in zip(session.outputs.tensors, after.tensors, strict=False):
        if old.shape != new.shape:
            continue
        a, b = (_by_time(tensor, rows, length, axis) for tensor in (old, new))
        if a is None or b is None:
            continue
        scale = spread(a)
        if scale <= 0:
            return None
        change = (b - a).double().square().reshape(*a.shape[:2], -1).mean(2).sqrt().median(0).values / scale
        early = change[:cut]
        reached = (early > _FELT).nonzero()
        result: dict[str, Any] = {
            "field": shifted.field.name,
            "length": length,
            "cut": cut,
            "leaks": len(reached) > 0,
            "effect": float(early.max()),
            "later_effect": float(change[cut:].max()),
            "reach": cut - int(reached.min()) if len(reached) else 0,
            "matched": shifted.matched,
        }
        if len(reached):
            result |= _cause(session, changes, length, cut)
        return result
    return None


def _by_time(output: torch.Tensor, rows: int, length: int, axis: int) -> torch.Tensor | None:
    """The output as `(rows, time, ...)`."""
    if axis:
        return per_position(output, rows, length)
    if output.dim() >= 2 and output.shape[:2] == (length, rows):
        return output.transpose(0, 1)
    if output.dim() <= 2 and output.shape[0] == rows * length:
        return output.reshape(length, rows, -1).transpose(0, 1)
    return None


def _other(value: torch.Tensor, shifted: NextStep, cut: int) -> torch.Tensor:
    """What could stand there as well: the same positions of the next sample, or others of the same one."""
    axis, across = shifted.axis, shifted.sample_axis
    rest = value.narrow(axis, cut, value.shape[axis] - cut)
    moved = rest.roll(1, across if value.shape[across] > 1 else axis)
    if torch.equal(moved, rest):
        moved = value.narrow(axis, 0, rest.shape[axis]) if rest.shape[axis] <= cut else rest.flip(axis)
    return moved.detach().clone()


def _cause(session: Session, changes: dict[int, torch.Tensor], length: int, cut: int) -> dict[str, Any]:
    first, second = session.traced(), session.traced(changes)
    found = blame(first, second, keeps(length, slice(0, cut), _SPARE))
    result: dict[str, Any] = {
        "cause": session.blamed(found),
        "hiding": None,
        "masks": [],
        "compresses": _compresses(session.call.module) or any(op.name in _RANDOM for op in session.trace.ops),
    }
    if found is not None:
        hiding = _hiding(found.later, found.op, length)
        result["hiding"] = hiding.line if hiding else None
        result["masks"] = list(_masks(session, found.op))
    return result


def _hiding(later: tuple[Traced, ...], op: Traced, length: int) -> Traced | None:
    """The operation that hides scores between this one and the softmax after it, if any."""
    for other in later:
        if other.name.endswith("softmax"):
            return None
        square = any(shape[-2:] == (length, length) for shape in other.shapes)
        if other.name in ("masked_fill", "where") and square:
            return other
        if other.name == "add" and square:
            for tensor in other.inputs:
                if tensor.is_floating_point() and tensor.dim() and float(tensor.min()) < -1e3:
                    return other
    return None


def _masks(session: Session, op: Traced) -> Iterator[Line]:
    """Lines that build a triangular mask, in the user's classes around the operation and in functions that they call."""
    kinds = dict.fromkeys(type(module) for module in (*reversed(op.modules), session.call.module))
    owners = dict.fromkeys(owner for kind in kinds for owner in kind.__mro__)
    functions = [value for owner in owners for value in vars(owner).values() if isinstance(value, FunctionType)]
    for function in functions:
        named = (function.__globals__.get(name) for name in function.__code__.co_names)
        for part in (function, *(value for value in named if isinstance(value, FunctionType))):
            code = part.__code__
            path = session.recorder.frames.name(code.co_filename)
            if path is None:
                continue
            for number in sorted({line for _, _, line in code.co_lines() if line is not None}):
                if _MASK.search(linecache.getline(code.co_filename, number).partition("#")[0]):
                    yield [path, number, code.co_name]


def _compresses(module: nn.Module) -> bool:
    """Whether an encoder feeds a decoder: what the whole sequence is compressed to may tell of the future."""
    found = set()
    for name, child in module.named_children():
        deep = isinstance(child, nn.RNNBase) or sum(1 for _ in child.modules()) > 2
        for role in ("enc", "dec"):
            if name.lower().startswith(role) and deep:
                found.add(role)
    return len(found) == 2
