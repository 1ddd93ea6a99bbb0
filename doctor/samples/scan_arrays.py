"""The arrays of npz, npy and pt files as evidence."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from doctor.errors import DoctorError
from doctor.evidence.tensor_samples import TensorSamples
from doctor.progress import Progress
from doctor.samples import splits
from doctor.samples.items import Layout
from doctor.samples.targets import known_target
from doctor.samples.tensors import TensorScan

Array = npt.NDArray[Any]
_INPUTS = ("x", "data", "images", "image", "inputs", "input", "features", "samples", "feats", "signals", "waveforms",
           "tokens", "input_ids", "ids", "img", "imgs", "sequences", "arr_0")  # fmt: skip
_TARGETS = ("y", "labels", "label", "targets", "target", "classes", "cls", "arr_1")
_BLOCK = 1 << 24  # values measured at a time


@dataclass(frozen=True)
class Pair:
    """Inputs and targets of one split."""

    split: str | None
    x_name: str
    x: Array
    y_name: str
    y: Array | None
    file: str


def scan_arrays(layout: Layout, progress: Progress, target: str | None = None) -> TensorSamples:
    """Read every sample once; raises DoctorError for files without arrays and arrays that do not go together."""
    pairs = list(_pairs(layout, target))
    return scan_pairs(pairs, progress)


def scan_pairs(pairs: list[Pair], progress: Progress) -> TensorSamples:
    """Measure arrays that are in memory."""
    count = sum(len(pair.x) for pair in pairs)
    progress.start("reading tensors", count)
    scan = TensorScan("sample", count)
    for pair in pairs:
        if pair.y is not None and len(pair.y) != len(pair.x):
            raise DoctorError(
                f"{pair.file}: {pair.x_name} has {len(pair.x)} samples, {pair.y_name} has {len(pair.y)}",
                "inputs and targets must have the same length",
            )
        block = max(1, _BLOCK // max(1, int(np.prod(pair.x.shape[1:]))))
        for start in range(0, len(pair.x), block):
            part = pair.x[start : start + block]
            targets = pair.y[start : start + block] if pair.y is not None else None
            scan.take_many(pair.x_name, start, pair.split, part, targets)
            progress.advance(start + len(part))
    progress.finish()
    return scan.result(pairs[0].x_name, pairs[0].y_name)


def _pairs(layout: Layout, target: str | None) -> list[Pair]:
    arrays: dict[str, tuple[Array, str | None, str]] = {}
    several = len(layout.items) > 1
    for item in layout.items:
        assert isinstance(item.path, Path)  # arrays in archives are not read
        for name, array in _arrays(item.path).items():
            key = f"{item.path.stem}:{name}" if several and item.path.suffix != ".npy" else name
            if array.ndim:
                arrays[key] = (array, splits.of_stem(name) or item.split, item.name)
    if not arrays:
        raise DoctorError(
            f"{layout.items[0].path} holds no arrays", "give arrays of inputs and targets, such as x and y"
        )
    plain = [key.partition(":")[2] or key for key in arrays]
    known_target(target, [*plain, *(name for key in plain if (name := _without_split(key)))], layout.items[0].name)
    groups: dict[tuple[str | None, str], dict[str, Array]] = {}
    for key, (array, split, file) in arrays.items():
        whose = "" if file.endswith(".npy") else file
        groups.setdefault((split, whose), {})[key] = array
    pairs = [pair for (split, file), group in groups.items() if (pair := _pair(split, file, group, target))]
    if not pairs:
        raise DoctorError(f"no inputs among the arrays {', '.join(arrays)}", "name them x and y, or give --target")
    return pairs


def _pair(split: str | None, file: str, group: Mapping[str, Array], target: str | None) -> Pair | None:
    known = {key: role_of(key.partition(":")[2] or key) for key in group}
    y_name = next((key for key in group if target in (p := key.partition(":")[2] or key, _without_split(p))), None)
    y_name = y_name or next((key for key, role in known.items() if role == "y"), None)
    rest = {key: array for key, array in group.items() if key != y_name}
    x_name = next((key for key, role in known.items() if role == "x" and key in rest), None)
    if x_name is None and rest:
        x_name = max(rest, key=lambda key: rest[key].size)
    if x_name is None:
        return None
    if y_name is None:
        flat = [key for key in rest if key != x_name and rest[key].ndim == 1 and len(rest[key]) == len(rest[x_name])]
        y_name = flat[0] if flat else None
    return Pair(split, x_name, group[x_name], y_name or "", group[y_name] if y_name else None, file or x_name)


def _without_split(name: str) -> str:
    """`y_train` and `train_y` are y."""
    return "_".join(word for word in name.replace("-", "_").split("_") if splits.of_word(word) is None)


def role_of(name: str) -> str | None:
    """`x` for an array of inputs, `y` for one of targets, by its name."""
    rest = _without_split(name.lower())
    if rest in _TARGETS or rest.rstrip("0123456789") in ("y", "label", "target"):
        return "y"
    return "x" if rest in _INPUTS or rest.startswith("x") else None


def _arrays(path: Path) -> dict[str, Array]:
    """The arrays of a file by name; raises DoctorError where it is no such file or would run code."""
    try:
        if path.suffix.lower() == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        return _tensors(path)
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as failure:
        words = "objects that would run code when loaded" if "allow_pickle" in str(failure) else str(failure)
        raise DoctorError(f"{path} cannot be read as arrays: {words.splitlines()[0]}", "is it cut off?") from None


def _tensors(path: Path) -> dict[str, Array]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as failure:  # torch raises UnpicklingError, RuntimeError and others
        raise DoctorError(
            f"{path} cannot be loaded as tensors alone ({type(failure).__name__})",
            "save a dictionary of tensors: torch.save({'x': x, 'y': y}, path)",
        ) from None
    if isinstance(loaded, (tuple, list)) and len(loaded) == 2:
        loaded = {"x": loaded[0], "y": loaded[1]}
    if isinstance(loaded, torch.Tensor):
        loaded = {"x": loaded}
    if not isinstance(loaded, Mapping):
        raise DoctorError(f"{path} holds no tensors by name", "save a dictionary: torch.save({'x': x, 'y': y}, path)")
    flat: dict[str, Any] = {}
    for key, value in loaded.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}_{inner}": held for inner, held in value.items()})
        elif isinstance(value, (tuple, list)) and len(value) == 2 and splits.of_word(key):
            flat.update({f"{key}_x": value[0], f"{key}_y": value[1]})
        else:
            flat[str(key)] = value
    return {key: as_array(value) for key, value in flat.items() if isinstance(value, torch.Tensor)}


def as_array(value: Any) -> Array:
    """A tensor as an array; bfloat16 as float32."""
    import torch

    tensor: torch.Tensor = value.detach().cpu()
    return np.asarray((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())
