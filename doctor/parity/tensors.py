"""Nested inputs and outputs as flat, named tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]


def flattened(value: Any, name: str = "") -> Tensors:
    """The tensors of a nested output by name: keys of mappings and fields, positions of sequences; None is dropped."""
    return dict(_parts(value, name))


def _parts(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name or "0", value.detach()
    elif isinstance(value, np.ndarray | np.generic):
        yield name or "0", tensor(np.asarray(value))
    elif isinstance(value, bool | int | float):
        yield name or "0", torch.tensor(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and not isinstance(value, Mapping):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        yield from _parts(fields, name)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _parts(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for key, part in zip(getattr(value, "_fields", None) or range(len(value)), value, strict=False):
            yield from _parts(part, f"{name}.{key}" if name else str(key))


def tensor(array: Any) -> torch.Tensor:
    """A tensor of an array of numbers; raises TypeError for text and objects."""
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{array.dtype} is no number")
    if array.dtype.byteorder == ">" or not array.flags.writeable:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)


def stored(
    name: str,
    dtype: str,
    shape: Sequence[int],
    strides: Sequence[int] | None,
    file: str,
    offset: int,
    nbytes: int,
) -> torch.Tensor:
    """A tensor by the place of its bytes in a file; raises ValueError where they are not there."""
    kind: torch.dtype = getattr(torch, dtype)
    if not nbytes:
        return torch.empty(tuple(shape), dtype=kind)
    with open(file, "rb") as stream:
        stream.seek(offset)
        content = bytearray(stream.read(nbytes))
    if len(content) < nbytes:
        raise ValueError(f"{name} ends beyond the file")
    flat = torch.frombuffer(content, dtype=kind)
    return flat.reshape(tuple(shape)) if strides is None else flat.as_strided(tuple(shape), tuple(strides)).clone()


def dtype_name(value: torch.Tensor) -> str:
    """`float32`, `int64` ..."""
    return str(value.dtype).removeprefix("torch.")


def rows(values: Tensors, axes: Mapping[str, int], index: list[int]) -> Tensors:
    """These samples of a batch; `axes` gives the batch axis of the inputs that have one."""
    at = torch.tensor(index)
    return {name: value.index_select(axes[name], at) if name in axes else value for name, value in values.items()}
