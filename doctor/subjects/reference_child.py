"""The child process that builds a reference model twice, under two seeds, and writes down what it is.

What is equal in both was loaded or is constant; what differs is drawn anew at every start.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

_MOST_BYTES = 4 << 30


def main() -> None:
    """Follow the plan, a JSON object in the only argument; the answer is `facts.json` in its scratch folder."""
    plan = json.loads(sys.argv[1])
    from doctor.observe.child import die_with_parent
    from doctor.observe.sandbox import Sandbox

    die_with_parent(plan["parent"])
    _limit(plan["memory_mb"])
    scratch = Path(plan["scratch"])
    folder = Path(plan["path"]).resolve().parent if plan["path"].endswith(".py") else Path.cwd()
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    sys.argv = [plan["path"]]
    Sandbox(plan["scratch"], (str(folder),)).install()
    try:
        facts = _describe(plan["path"], plan["factory"], scratch)
    except BaseException as failure:
        facts = {"error": f"{type(failure).__name__}: {str(failure)[:500]}"}
    (scratch / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _limit(memory_mb: int) -> None:
    """Limit what the child may allocate beyond what PyTorch maps by itself."""
    try:
        import resource
    except ImportError:  # no such limits on this system
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))


def _describe(path: str, factory: str, scratch: Path) -> dict[str, Any]:
    import torch

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
    facts["sample_inputs"] = callable(getattr(module, "sample_inputs", None))
    return facts


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

    from doctor.subjects.reference import FACTORIES

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

    plain = value.detach().cpu().contiguous().reshape(-1)
    if plain.dtype.is_floating_point and plain.dtype not in (torch.float32, torch.float64):
        plain = plain.float()
    if plain.dtype.is_complex:
        plain = torch.view_as_real(plain).reshape(-1)
    content: bytes = plain.numpy().tobytes()
    return content


def _digest(value: Any) -> str:
    return hashlib.blake2b(_bytes(value), digest_size=16).hexdigest() if not value.is_meta else "meta"


if __name__ == "__main__":
    os._exit(2)
