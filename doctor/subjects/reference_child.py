"""The reference model of an artifact, built by the user's own code, and described. For child processes."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

FACTORIES = ("build", "build_model", "make_model", "create_model", "get_model", "model", "Model", "Net")
_MOST_BYTES = 4 << 30


def split(spec: str) -> tuple[str, str]:
    """The file or dotted name, and the factory's name (empty: one of the usual), of `module.py:factory`."""
    where, _, factory = spec.rpartition(":") if ":" in spec and not spec.endswith(".py") else (spec, "", "")
    return where, factory


def build_twice(spec: str, scratch: Path) -> tuple[dict[str, Any], Any, Any]:
    """What the model is, as plain data, its module, and the model; its values are written to `values.bin`.

    What is equal under both seeds was loaded or is constant; what differs is drawn anew at every start.
    """
    import torch

    path, factory = split(spec)
    module = load(path)
    first = model_of(module, factory, 1)
    facts = describe(first)
    second = model_of(module, factory, 2)
    other = {name: _digest(value) for name, value in second.state_dict().items() if isinstance(value, torch.Tensor)}
    values = {name: value for name, value in first.state_dict().items() if isinstance(value, torch.Tensor)}
    total = sum(value.numel() * value.element_size() for value in values.values())
    offset = 0
    with (scratch / "values.bin").open("wb") as stream:
        for name, value in values.items():
            entry = facts["state"][name]
            entry["drawn"] = other.get(name) != _digest(value)
            if total <= _MOST_BYTES and value.layout == torch.strided and not value.is_meta:
                plain = _bytes(value)
                entry["offset"], entry["nbytes"] = offset, len(plain)
                offset += len(plain)
                stream.write(plain)
    facts["settled"] = other.keys() == values.keys() and not any(entry["drawn"] for entry in facts["state"].values())
    return facts, module, first


def load(path: str) -> Any:
    """Import the user's module from a file or by its dotted name."""
    if not path.endswith(".py"):
        return importlib.import_module(path)
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, Path(path).resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def model_of(module: Any, factory: str, seed: int) -> Any:
    """Call the factory (by default the first of the usual names) under a seed; the model in evaluation mode."""
    import torch

    name = factory or next((name for name in FACTORIES if hasattr(module, name)), "")
    if not name or not hasattr(module, name):
        raise AttributeError(f"{module.__name__} has no {factory or 'factory such as ' + ', '.join(FACTORIES[:4])}")
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    made = getattr(module, name)
    model = made if isinstance(made, torch.nn.Module) else made()
    if isinstance(model, tuple | list):
        model = next((part for part in model if isinstance(part, torch.nn.Module)), None)
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"{name}() gave {type(model).__name__}, not a torch.nn.Module")
    return model


def describe(model: Any) -> dict[str, Any]:
    """Keys, shapes, types, ties and layers of a model."""
    import torch

    state: dict[str, dict[str, Any]] = {
        name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    owners: dict[int, list[str]] = {}
    for name, value in parameters.items():
        owners.setdefault(id(value), []).append(name)
    for name in state:
        state[name]["parameter"] = name in parameters
    return {
        "state": state,
        "transient": [name for name in buffers if name not in state],
        "ties": [names for names in owners.values() if len(names) > 1],
        "modules": {name: type(layer).__name__ for name, layer in model.named_modules()},
        "training": bool(model.training),
        "class": type(model).__name__,
        "classes": sorted({f"{type(layer).__module__}.{type(layer).__qualname__}" for layer in model.modules()}),
    }


def _bytes(value: Any) -> bytes:
    import torch

    plain = _dense(value.detach().cpu()).contiguous().reshape(-1)
    if plain.dtype.is_floating_point and plain.dtype not in (torch.float32, torch.float64):
        plain = plain.float()
    if plain.dtype.is_complex:
        plain = torch.view_as_real(plain).reshape(-1)
    content: bytes = plain.numpy().tobytes()
    return content


def _dense(value: Any) -> Any:
    """The numbers of a sparse or quantised tensor, as a plain one. A sparse one may be far too large when written out."""
    import torch

    if value.is_quantized:
        return value.dequantize()
    if value.layout == torch.sparse_coo:
        whole = value.coalesce()
        return torch.cat([whole.indices().double().reshape(-1), whole.values().double().reshape(-1)])
    if value.layout in (torch.sparse_csr, torch.sparse_bsr):
        places = (value.crow_indices(), value.col_indices(), value.values())
        return torch.cat([part.double().reshape(-1) for part in places])
    if value.layout in (torch.sparse_csc, torch.sparse_bsc):
        places = (value.ccol_indices(), value.row_indices(), value.values())
        return torch.cat([part.double().reshape(-1) for part in places])
    return value


def _digest(value: Any) -> str:
    return hashlib.blake2b(_bytes(value), digest_size=16).hexdigest() if not value.is_meta else "meta"
