"""How an artifact is run: ONNX Runtime, TorchScript, torch.export, or weights loaded into the reference model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from doctor.parity.reference import Reference
from doctor.parity.tensors import Tensors, flattened, stored, tensor


class Backend(Protocol):
    """An opened artifact.

    `named` says whether clients address its inputs by name; otherwise they go by position. `inputs` is None where the
    artifact does not say what it takes; `optional` ones have a default.
    """

    name: str
    named: bool
    inputs: list[str] | None
    optional: frozenset[str]

    def __call__(self, given: Tensors, *, plain: bool = False) -> Tensors:
        """Its outputs, flat. `plain` runs without graph optimisations where the runtime has them."""

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Its tensors by name."""


class OnnxBackend:
    """ONNX Runtime on the CPU, with all graph optimisations or (`plain`) none.

    The two differ in more than speed: with optimisations, a Dropout in training mode may be removed; without them
    every node runs as it stands in the file.
    """

    name = "ONNX Runtime"
    named = True
    optional: frozenset[str] = frozenset()

    def __init__(self, path: str) -> None:
        self._path = path
        self._sessions: dict[bool, Any] = {}
        session = self._session(plain=False)
        self.inputs: list[str] | None = [port.name for port in session.get_inputs()]
        self._types = {port.name: port.type for port in session.get_inputs()}
        self.outputs = [port.name for port in session.get_outputs()]

    def _session(self, *, plain: bool) -> Any:
        if plain not in self._sessions:
            import onnxruntime as ort

            ort.set_default_logger_severity(4)
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            level = ort.GraphOptimizationLevel
            options.graph_optimization_level = level.ORT_DISABLE_ALL if plain else level.ORT_ENABLE_ALL
            self._sessions[plain] = ort.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        return self._sessions[plain]

    def __call__(self, given: Tensors, *, plain: bool = False) -> Tensors:
        if any(value.dtype is torch.bfloat16 for value in given.values()):
            raise TypeError("bfloat16 inputs cannot be passed from the CPU")
        feed = {name: value.detach().contiguous().numpy() for name, value in given.items()}
        results = self._session(plain=plain).run(None, feed)
        found: Tensors = {}
        for name, value in zip(self.outputs, results, strict=True):
            found.update(_numeric(name, value))
        return found

    def weights(self) -> Mapping[str, torch.Tensor]:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(self._path).graph
        found = {}
        for initializer in graph.initializer:
            try:
                found[initializer.name] = tensor(numpy_helper.to_array(initializer))
            except (TypeError, ValueError):
                continue
        return found


def _numeric(name: str, value: Any) -> Tensors:
    try:
        return flattened(value, name)
    except TypeError:  # strings: class names of a classifier
        return {}


class ModuleBackend:
    """A PyTorch module of any origin, called by position."""

    named = False

    def __init__(
        self, name: str, module: torch.nn.Module, inputs: list[str] | None, optional: frozenset[str] = frozenset()
    ) -> None:
        self.name, self._module, self.inputs, self.optional = name, module, inputs, optional

    def __call__(self, given: Tensors, *, plain: bool = False) -> Tensors:
        values = {name: value.clone() for name, value in given.items()}
        with torch.no_grad():
            return flattened(self._module(*values.values()))

    def weights(self) -> Mapping[str, torch.Tensor]:
        return {key: value for key, value in self._module.state_dict().items() if isinstance(value, torch.Tensor)}


class WeightsBackend:
    """A state dict in the reference model: loaded strictly where it fits, else as far as it fits, as servers do."""

    name = "PyTorch"
    named = True
    optional: frozenset[str] = frozenset()

    def __init__(self, reference: Reference, state: Mapping[str, torch.Tensor]) -> None:
        self._reference, self._state = reference, state
        self._model = reference.variant()
        wanted = self._model.state_dict()
        fitting = {key: value for key, value in state.items() if key in wanted and wanted[key].shape == value.shape}
        self.missing = [key for key in wanted if key not in state]
        self.unexpected = [key for key in state if key not in wanted]
        self.mismatched = [key for key in state if key in wanted and key not in fitting]
        _start_afresh(self._model, {*self.missing, *self.mismatched})
        self._model.load_state_dict(fitting, strict=False)
        self._model.eval()
        self.inputs: list[str] | None = None  # whatever forward takes

    @property
    def whole(self) -> bool:
        """Whether `load_state_dict(strict=True)` takes it."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __call__(self, given: Tensors, *, plain: bool = False) -> Tensors:
        return self._reference(given, self._model)

    def weights(self) -> Mapping[str, torch.Tensor]:
        return self._state


def _start_afresh(model: torch.nn.Module, keys: set[str]) -> None:
    """Give what the state dict does not fill the values of a fresh model, as it would have on a server."""
    torch.manual_seed(0)
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        own = {name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
        if not any(prefix + name in keys for name in own):
            continue
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        else:
            with torch.no_grad():
                for name, parameter in module.named_parameters(recurse=False):
                    if prefix + name in keys:
                        parameter.normal_(std=0.02)


class LoadError(Exception):
    """The artifact cannot be opened by its runtime."""


def opened(
    path: str, kind: str, reference: Reference | None, *, trust: bool, state: Sequence[Mapping[str, Any]] = ()
) -> Backend:
    """Open an artifact by its format's name; raises LoadError.

    `state` says where the numbers of a pickled state dict or module lie: what weights-only loading refuses for other
    things than its tensors is read by it, and not unpickled.
    """
    try:
        if kind == "onnx":
            return OnnxBackend(path)
        if kind == "torchscript":
            module = torch.jit.load(path, map_location="cpu")
            arguments = module.forward.schema.arguments[1:]
            optional = frozenset(argument.name for argument in arguments if argument.has_default_value())
            return ModuleBackend("TorchScript", module, [argument.name for argument in arguments], optional)
        if kind == "pt2":
            return _exported(path)
        return _weights(path, kind, reference, trust=trust, state=state)
    except (LoadError, ImportError):
        raise
    except Exception as failure:
        raise LoadError(f"{type(failure).__name__}: {str(failure)[:400]}") from None


def _exported(path: str) -> Backend:
    program = torch.export.load(path)
    module = program.module()
    spec = program.graph_signature.user_inputs
    return ModuleBackend("torch.export", module, [str(name) for name in spec if name is not None])


def _weights(
    path: str, kind: str, reference: Reference | None, *, trust: bool, state: Sequence[Mapping[str, Any]]
) -> Backend:
    loaded: Any
    if kind in ("safetensors", "sharded", "huggingface"):
        from safetensors.torch import load_file

        file = Path(path)
        parts = sorted(file.glob("*.safetensors")) if file.is_dir() else [file]
        if file.suffix == ".json":  # an index beside its shards
            import json

            names = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
            parts = [file.parent / name for name in names]
        if not parts:
            raise LoadError("no safetensors file in the folder")
        loaded = {}
        for part in parts:
            loaded.update(load_file(part))
    else:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            if trust:
                loaded = torch.load(path, map_location="cpu", weights_only=False)
            elif state and reference is not None:
                return WeightsBackend(reference, {str(entry["name"]): stored(**entry) for entry in state})
            else:
                raise
    if isinstance(loaded, torch.nn.Module):
        return ModuleBackend("PyTorch", loaded.eval(), reference.names if reference else None)
    if reference is None:
        raise LoadError("weights alone are not run; give --reference module:factory")
    return WeightsBackend(reference, _state_dict(loaded))


def _state_dict(loaded: Any) -> Mapping[str, torch.Tensor]:
    """The weights within a checkpoint: the usual keys, else the mapping with the most tensors."""
    if not isinstance(loaded, Mapping):
        raise LoadError(f"a {type(loaded).__name__}, no state dict")
    candidates = [loaded] + [loaded[key] for key in loaded if isinstance(loaded[key], Mapping)]
    for key in ("state_dict", "model_state_dict", "model", "net", "weights", "module"):
        if isinstance(loaded.get(key), Mapping):
            candidates = [loaded[key]]
            break
    best = max(candidates, key=lambda mapping: sum(isinstance(value, torch.Tensor) for value in mapping.values()))
    return {str(key): value for key, value in best.items() if isinstance(value, torch.Tensor)}
