"""Sample inputs: read from the user's file, or made from a declared signature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from doctor.parity.tensors import Tensors, flattened, tensor

MADE_BATCH = 4  # rows of generated inputs
MADE_LENGTH = 16  # size of other free dimensions


class InputsError(Exception):
    """The inputs cannot be read; one line for the user."""


def read(path: str) -> tuple[Tensors, bool]:
    """The arrays of a file by name, in its order, dtypes kept; and whether the names mean something.

    `.npz` (arrays of numbers; never pickled objects), `.npy`, `.pt` (weights only), `.json` (an object of lists, or a
    list of rows) and `.parquet` (one input a column). Raises InputsError.
    """
    file = Path(path)
    if not file.is_file():
        raise InputsError(f"no file {path}")
    suffix = file.suffix.lower()
    try:
        if suffix in (".npz", ".npy"):
            return _numpy(file)
        if suffix in (".pt", ".pth", ".bin"):
            return _torch(file)
        if suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file), True
        if suffix == ".json":
            return _named(json.loads(file.read_text(encoding="utf-8")))
        if suffix in (".parquet", ".pq"):
            return _parquet(file)
    except InputsError:
        raise
    except Exception as failure:
        raise InputsError(f"{path} cannot be read ({type(failure).__name__}: {str(failure)[:200]})") from None
    raise InputsError(f"{path}: inputs are read from .npz, .npy, .pt, .safetensors, .json and .parquet")


def _numpy(file: Path) -> tuple[Tensors, bool]:
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {"0": tensor(loaded)}, False
    with loaded:
        found = {name: tensor(loaded[name]) for name in loaded.files}
    return found, not all(name.startswith("arr_") for name in found)


def _torch(file: Path) -> tuple[Tensors, bool]:
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    return flattened(loaded), isinstance(loaded, dict)


def _named(value: Any) -> tuple[Tensors, bool]:
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        value = {name: [row[name] for row in value] for name in value[0]}
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict | list):
        inner = next(iter(value.values()))
        wrapper = next(iter(value))
        if wrapper in ("inputs", "instances", "data") and isinstance(inner, dict):
            value = inner
    if isinstance(value, dict):
        return {str(name): _from_lists(part) for name, part in value.items()}, True
    return {"0": _from_lists(value)}, False


def _from_lists(value: Any) -> torch.Tensor:
    """JSON knows no dtypes: whole numbers are int64, others float32."""
    array = np.asarray(value)
    return tensor(array.astype(np.float32) if array.dtype == np.float64 else array)


def _parquet(file: Path) -> tuple[Tensors, bool]:
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    found = {}
    for name in table.column_names:
        column = table.column(name).to_pylist()
        array = np.asarray(column)
        kind = table.schema.field(name).type
        while hasattr(kind, "value_type"):
            kind = kind.value_type
        found[name] = tensor(array.astype(np.dtype(kind.to_pandas_dtype())))
    return found, True


def generated(ports: Sequence[dict[str, Any]], seed: int) -> Tensors | None:
    """Inputs of a declared signature: normal floats, small whole numbers, ones for masks; None where rank or dtype is
    not declared.

    Free dimensions of one name have one size; unnamed ones differ by position only.
    """
    generator = torch.Generator().manual_seed(seed)
    made: Tensors = {}
    for port in ports:
        dims, dtype = port.get("dims"), getattr(torch, port.get("dtype") or "", None)
        if dims is None or not isinstance(dtype, torch.dtype):
            return None
        shape = [
            size
            if isinstance(size, int) and size > 0
            else (MADE_BATCH if axis == 0 or _is_batch(size) else MADE_LENGTH)
            for axis, size in enumerate(dims)
        ]
        if dtype.is_floating_point:
            made[port["name"]] = torch.randn(shape, generator=generator).to(dtype)
        elif dtype is torch.bool or "mask" in port["name"]:
            made[port["name"]] = torch.ones(shape, dtype=dtype)
        else:
            made[port["name"]] = torch.randint(0, 2, shape, generator=generator).to(dtype)
    return made


def _is_batch(size: Any) -> bool:
    return isinstance(size, str) and "batch" in size.lower()
