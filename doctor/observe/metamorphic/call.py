"""A captured call that can be made again with changed inputs; whatever it changes is put back."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from doctor.observe.capture import Capture
from doctor.observe.patches import Patches

_LOSSES = ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits",
           "binary_cross_entropy", "huber_loss", "ctc_loss")  # fmt: skip
_MOST_OUTPUTS = 8

Changes = Mapping[int, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Field:
    """One tensor that the model is called with: its place among the arguments, and the parameter's name."""

    index: int
    name: str
    value: torch.Tensor


@dataclasses.dataclass
class Outputs:
    """Floating tensors that the call gave: those with axes by name, and the scalars (losses)."""

    tensors: list[tuple[str, torch.Tensor]]
    scalars: list[torch.Tensor]

    def finite(self) -> bool:
        """Whether all numbers are."""
        return all(bool(torch.isfinite(tensor).all()) for _, tensor in self.tensors)


class Call:
    """One captured call of a model.

    Modes: `eval` (all modules), `train` (all as they were in training), `batchnorm` (only the batch norms as they were in
    training).
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.module = capture.module
        located, self._spec = pytree.tree_flatten_with_path((capture.args, capture.kwargs))
        self._leaves = [leaf for _, leaf in located]
        names = _parameter_names(self.module)
        self.fields = [
            Field(index, _name(path, names), leaf)
            for index, (path, leaf) in enumerate(located)
            if isinstance(leaf, torch.Tensor)
        ]
        self.batch_statistics = False  # a normalisation used those of the batch though the model was in eval mode
        self._grad = False
        self._modules = dict(self.module.named_modules())
        self._attributes = {path: dict(part.__dict__) for path, part in self._modules.items()}
        self._buffers = [
            (part._buffers, dict(part._buffers), {name: _snapshot(value) for name, value in part._buffers.items()})
            for part in self._modules.values()
            if part._buffers
        ]

    def run(
        self,
        changes: Changes | None = None,
        mode: str = "eval",
        seed: int = 0,
        watching: AbstractContextManager[Any] | None = None,
    ) -> Outputs:
        """Call the model with some fields replaced; raises what the model raises."""
        changes = changes or {}
        leaves = [
            changes.get(index, leaf).clone() if isinstance(leaf, torch.Tensor) else leaf
            for index, leaf in enumerate(self._leaves)
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        with (
            self._prepared(mode, seed) as losses,
            torch.set_grad_enabled(self._grad),
            watching or nullcontext(),
        ):
            result = self.module(*args, **kwargs)
        found = list(_floating(result, ""))
        scalars = [tensor.detach() for _, tensor in found if not tensor.dim()]
        tensors = [(name, tensor.detach()) for name, tensor in found if tensor.dim()]
        return Outputs((tensors or [("logits", tensor) for tensor in losses])[:_MOST_OUTPUTS], scalars)

    def need_gradients(self) -> None:
        """Some models differentiate in their forward."""
        self._grad = True

    def gradient(self, field: Field) -> torch.Tensor:
        """Gradient of a fixed random projection of the outputs with respect to one field, in eval mode."""
        flat = list(self._leaves)
        leaf = field.value.detach().clone().requires_grad_()
        flat[field.index] = leaf * 1.0
        args, kwargs = pytree.tree_unflatten(flat, self._spec)
        with self._prepared("eval", 0) as losses, torch.enable_grad():
            result = self.module(*args, **kwargs)
            found = [tensor for _, tensor in _floating(result, "") if tensor.requires_grad] or losses
            total = sum((_projection(tensor) for tensor in found[:_MOST_OUTPUTS]), torch.zeros(()))
            (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
        return torch.zeros_like(leaf) if gradient is None else gradient

    @contextmanager
    def _prepared(self, mode: str, seed: int) -> Iterator[list[torch.Tensor]]:
        losses: list[torch.Tensor] = []
        patches = Patches()
        for name in _LOSSES:
            patches.wrap(nn.functional, name, _noting(losses))
        patches.wrap(nn.functional, "batch_norm", self._batch_norm(mode))
        states = random.getstate(), _numpy_state()
        fast = torch.backends.mha.get_fastpath_enabled()
        # The fused paths of evaluation are other code than the one that was trained, and show nothing of themselves.
        torch.backends.mha.set_fastpath_enabled(False)
        self._set_mode(mode)
        try:
            with (
                torch.random.fork_rng(devices=self._devices()),
                contextlib.redirect_stdout(io.StringIO()),
                sdpa_kernel(SDPBackend.MATH),
            ):
                torch.manual_seed(seed)
                random.seed(seed)
                _seed_numpy(seed)
                yield losses
        finally:
            patches.undo()
            torch.backends.mha.set_fastpath_enabled(fast)
            random.setstate(states[0])
            _restore_numpy(states[1])
            self.restore()

    def _devices(self) -> list[int]:
        if not torch.cuda.is_available():
            return []
        return sorted({field.value.device.index or 0 for field in self.fields if field.value.is_cuda})

    def _batch_norm(self, mode: str) -> Any:
        def around(original: Any, *args: Any, **kwargs: Any) -> Any:
            if mode == "eval" and (kwargs.get("training") or (len(args) > 5 and args[5])):
                self.batch_statistics = True
            return original(*args, **kwargs)

        return around

    def _set_mode(self, mode: str) -> None:
        for path, part in self._modules.items():
            on = mode != "eval" and path not in self.capture.resting
            part.training = on and (mode == "train" or isinstance(part, nn.modules.batchnorm._BatchNorm))

    def restore(self) -> None:
        """Attributes (hidden states, modes) and buffers as they were when the program ended."""
        for path, part in self._modules.items():
            own = part.__dict__
            for name, value in self._attributes[path].items():
                if own.get(name) is not value:
                    own[name] = value
        for buffers, tensors, snapshots in self._buffers:
            for name, tensor in tensors.items():
                buffers[name] = tensor
                if tensor is not None and tensor._version != snapshots[name][0]:
                    with torch.no_grad():
                        tensor.copy_(snapshots[name][1])
                    snapshots[name] = (tensor._version, snapshots[name][1])


def _snapshot(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else (tensor._version, tensor.detach().clone())


def _noting(losses: list[torch.Tensor]) -> Any:
    def around(original: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(input, torch.Tensor) and input.dim() and input.is_floating_point():
            losses.append(input)
        return original(input, *args, **kwargs)

    return around


def _projection(tensor: torch.Tensor) -> torch.Tensor:
    weights = torch.cos(torch.arange(tensor.numel(), device=tensor.device) * 1.7 + 0.3).reshape(tensor.shape)
    return (tensor.float() * weights).sum().cpu()


def _floating(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and value.numel() and value.layout is torch.strided:
            yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _floating(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for key, part in enumerate(value):
            yield from _floating(part, f"{name}.{key}" if name else str(key))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from _floating(getattr(value, part.name), f"{name}.{part.name}" if name else part.name)


def _parameter_names(module: nn.Module) -> list[str]:
    try:
        return list(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):
        return []


def _name(path: Any, names: list[str]) -> str:
    keys = [getattr(key, "idx", getattr(key, "key", getattr(key, "name", key))) for key in path]
    first = keys[1] if len(keys) > 1 else "input"
    if isinstance(first, int):
        first = names[first] if first < len(names) and names[first] not in ("args", "input") else f"input {first + 1}"
    return ".".join(str(key) for key in (first, *keys[2:]))


def _numpy_state() -> Any:
    numpy = sys.modules.get("numpy")
    return numpy.random.get_state() if numpy is not None else None


def _seed_numpy(seed: int) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def _restore_numpy(state: Any) -> None:
    if state is not None:
        sys.modules["numpy"].random.set_state(state)
