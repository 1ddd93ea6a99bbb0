"""Which axis holds the samples, which the time, and where the padding is: read off the data, never off the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from doctor.observe.metamorphic.call import Call, Field, Outputs

_SURE = 0.99  # share of the positions that must match to call the targets shifted inputs
_CHANCE = 0.9  # share that unshifted targets may match at most: constant sequences match at every shift
_LEAST_MATCHES = 32


@dataclass(frozen=True)
class Samples:
    """`rows` samples along `axis` of the fields; `how` says what shows it: loader, targets, pooled, images, rows."""

    rows: int
    axis: int
    how: str

    def axis_of(self, field: torch.Tensor) -> int | None:
        """The axis of the samples in this field."""
        if field.dim() > self.axis and field.shape[self.axis] == self.rows:
            return self.axis
        if field.dim() == 1 and field.shape[0] == self.rows:
            return 0
        return None

    def by_row(self, output: torch.Tensor) -> torch.Tensor | None:
        """The output as `(rows, ...)`; None where it has no such axis."""
        if self.axis and output.dim() > 1 and output.shape[1] == self.rows:
            return output.transpose(0, 1)
        if output.shape[0] == self.rows:
            return output
        if output.shape[0] % self.rows or output.dim() > 2:
            return None
        times = output.shape[0] // self.rows
        if self.axis:
            return output.reshape(times, self.rows, *output.shape[1:]).transpose(0, 1)
        return output.reshape(self.rows, times, *output.shape[1:])


@dataclass(frozen=True)
class NextStep:
    """A field of which the targets are the values one position later, along `axis`."""

    field: Field
    axis: int
    matched: float

    @property
    def sample_axis(self) -> int:
        """The axis of the samples: time is `(batch, time)`, `(batch, channels, time)` or `(time, batch)`."""
        return 0 if self.axis else 1


def main_field(call: Call) -> Field | None:
    """The field that the model works on: the first with two axes, else the first with one."""
    tensors = [field for field in call.fields if field.value.layout is torch.strided and field.value.numel()]
    wide = [field for field in tensors if field.value.dim() >= 2]
    return next(iter(wide or [field for field in tensors if field.value.dim() == 1]), None)


def samples(
    call: Call, outputs: Outputs, targets: list[torch.Tensor], loader_rows: int | None, next_step: list[NextStep]
) -> Samples | None:
    """Where the samples are; None where the data do not tell."""
    field = main_field(call)
    if field is None or field.value.dim() < 2:
        return None
    shape, integer = field.value.shape, not field.value.is_floating_point()
    if next_step:
        axis = next_step[0].sample_axis
        return Samples(next_step[0].field.value.shape[axis], axis, "targets")
    sequence = len(shape) == 3 or (len(shape) == 2 and integer)
    if loader_rows:
        if shape[0] == loader_rows and (not sequence or shape[1] != loader_rows):
            return Samples(loader_rows, 0, "loader")
        if sequence and shape[1] == loader_rows and shape[0] != loader_rows:
            return Samples(loader_rows, 1, "loader")
        return None
    first = next((tensor for _, tensor in outputs.tensors), None)
    if first is None or first.shape[0] != shape[0]:
        return None
    if len(shape) >= 4:
        return Samples(shape[0], 0, "images")
    matched = any(target.dim() in (1, 2) and target.shape[0] == shape[0] for target in targets)
    if sequence and first.dim() <= 2 and shape[0] != shape[1] and matched:
        return Samples(shape[0], 0, "pooled")
    if len(shape) == 2 and not integer and first.dim() <= 2:
        return Samples(shape[0], 0, "rows")
    return None


def next_steps(call: Call, targets: list[torch.Tensor]) -> list[NextStep]:
    """The fields whose next position is the target: next-token and next-value prediction."""
    found = []
    for field in call.fields:
        value = field.value
        if value.dim() < 2 or value.dim() > 3 or value.dtype is torch.bool or value.layout is not torch.strided:
            continue
        if "label" in field.name or "target" in field.name:
            continue
        for axis in (1, 0, 2)[: value.dim()]:
            if value.shape[axis] < 4:
                continue
            best = max((_matched(value, target, axis) for target in targets), default=0.0)
            if best >= _SURE:
                found.append(NextStep(field, axis, best))
                break
    return found


def _matched(value: torch.Tensor, target: torch.Tensor, axis: int) -> float:
    if value.is_floating_point() != target.is_floating_point():
        return 0.0
    if value.dim() == 3 and axis < 2:
        # Of several features the first ones are the predicted ones, if any.
        width = target.shape[-1] if target.dim() == 3 and target.shape[-1] <= value.shape[-1] else 1
        value = value[..., :width]
        if width == 1:
            value = value[..., 0]
    length = value.shape[axis]
    for short in (0, 1):
        wanted = list(value.shape)
        wanted[axis] = length - short
        if target.numel() != math.prod(wanted):
            continue
        shaped = target.reshape(wanted).to(value.device)
        after = value.narrow(axis, 1, length - 1)
        if _same(shaped.narrow(axis, 0, length - 1), after) < _SURE:
            continue
        same = value.narrow(axis, 0, length - short)
        if _same(shaped, same) <= _CHANCE:
            return _same(shaped.narrow(axis, 0, length - 1), after)
    return 0.0


def _same(target: torch.Tensor, value: torch.Tensor) -> float:
    if value.is_floating_point():
        scale = float(value.std()) if value.numel() > 1 else 0.0
        return float(((target - value).abs() <= 1e-5 * scale).float().mean()) if scale > 0 else 0.0
    counted = target >= 0  # -100 and other marks of what the loss leaves out
    if int(counted.sum()) < _LEAST_MATCHES:
        return 0.0
    return float((target == value)[counted].float().mean())


@dataclass(frozen=True)
class Padding:
    """Right padding of a field `(samples, time, ...)`: one real length a sample."""

    field: Field
    lengths: torch.Tensor
    value: float


def padding(call: Call) -> Padding | None:
    """The padded field: rows end in runs of one value that stands nowhere else, and of different lengths."""
    for field in call.fields:
        value = field.value
        integer = not value.is_floating_point() and value.dtype is not torch.bool and value.dim() == 2
        if "mask" in field.name or "label" in field.name or "target" in field.name or "type" in field.name:
            continue
        if not (integer or (value.is_floating_point() and value.dim() == 3)) or min(value.shape[:2]) < 4:
            continue
        if value.layout is not torch.strided:
            continue
        empty = _padding_value(value) if integer else 0.0
        if empty is None:
            continue
        blank = value == empty if integer else (value == 0).all(-1)
        length = value.shape[1]
        lengths = length - (blank.flip(1).long().cumprod(1)).sum(1)
        inside = torch.arange(length, device=value.device)[None] < lengths[:, None]
        padded = lengths < length
        if bool((blank & inside).any()) or float(padded.float().mean()) < 0.25 or int(lengths.min()) < 1:
            continue
        if len(lengths[padded].unique()) >= 2:
            return Padding(field, lengths, float(empty))
    return None


def leading_padding(call: Call) -> Padding | None:
    """Token ids whose rows begin with runs of one value that stands nowhere else, and of different lengths."""
    for field in call.fields:
        value = field.value
        integer = not value.is_floating_point() and value.dtype is not torch.bool and value.dim() == 2
        named = any(word in field.name for word in ("mask", "label", "target", "type", "position"))
        if named or not integer or min(value.shape) < 4:
            continue
        turned = value.flip(1)
        empty = _padding_value(turned)
        if empty is None:
            continue
        blank = turned == empty
        lengths = value.shape[1] - (blank.flip(1).long().cumprod(1)).sum(1)
        inside = torch.arange(value.shape[1], device=value.device)[None] < lengths[:, None]
        padded = lengths < value.shape[1]
        few = float(padded.float().mean()) < 0.25 or int(lengths.min()) < 1 or len(lengths[padded].unique()) < 2
        if not few and not bool((blank & inside).any()):
            return Padding(field, lengths, empty)
    return None


def _padding_value(value: torch.Tensor) -> float | None:
    last = value[:, -1]
    values, counts = last[value[:, -1] == value[:, -2]].unique(return_counts=True)
    return float(values[counts.argmax()]) if len(values) else None


def per_position(output: torch.Tensor, rows: int, length: int) -> torch.Tensor | None:
    """The output as `(rows, time, ...)`; None where it has no axis for the time. Lengths may differ by one."""
    lengths = (length, length - 1)
    if output.dim() >= 2 and output.shape[0] == rows and output.shape[1] in lengths:
        return output
    if output.dim() == 3 and output.shape[0] == rows and output.shape[2] in lengths:
        return output.transpose(1, 2)
    for steps in lengths:
        if output.dim() <= 2 and output.shape[0] == rows * steps:
            return output.reshape(rows, steps, -1)
    return None
