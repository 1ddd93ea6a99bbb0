"""Parameters: how they started, which of them the loss reaches, how far they moved."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from doctor.observe import naming
from doctor.observe.frames import Line
from doctor.observe.optimizers import norms, rms, sample

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder


class ParameterWatch:
    """Registered parameters of all roots, and the other leaves that losses reach."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._reached: dict[str, int] = {}
        self._backwards = 0
        self._initial: dict[str, dict[str, Any]] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        self._first: dict[str, torch.Tensor] = {}
        self._held: dict[str, int] = {}
        self._unregistered: dict[int, str] = {}
        self._depth: dict[str, int] = {}
        self._gradients: list[dict[str, Any]] = []
        self._modules: dict[str, dict[str, Any]] = {}
        self._initialised: dict[int, Line] = {}
        self._calls: dict[tuple[int, str], list[int]] = {}

    def install(self) -> None:
        """Notice where the program itself initialises parameters."""
        for name in ("zeros_", "ones_", "constant_", "normal_", "uniform_", "trunc_normal_", "eye_"):
            self._recorder.patches.wrap(nn.init, name, self._initialise)

    def _initialise(self, original: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        # Only a direct call of the user's counts; layers draw their own defaults through the same functions.
        caller = sys._getframe(2)
        name = self._recorder.frames.name(caller.f_code.co_filename)
        if name is not None:
            self._initialised[id(tensor)] = [name, caller.f_lineno, caller.f_code.co_name]
        return original(tensor, *args, **kwargs)

    def name(self, tensor: torch.Tensor) -> str:
        """Qualified name; tensors outside every module are named by their shape and a number."""
        known = self._recorder.naming.parameter(tensor)
        if known is not None:
            return known
        if id(tensor) not in self._unregistered:
            shape = "x".join(map(str, tensor.shape)) or "scalar"
            name = f"<tensor {shape} #{len(self._unregistered)}>"
            self._unregistered[id(tensor)] = name
            self._tensors[name] = tensor  # keeps the id from being used again
        return self._unregistered[id(tensor)]

    def calls_of(self, module: nn.Module) -> list[int]:
        """How often a module was called, and how often of that with gradients: the counts themselves, to be raised."""
        return self._calls.setdefault(self._recorder.naming.place(module), [0, 0])

    def note_reached(self, leaves: list[torch.Tensor]) -> list[str]:
        """After walking the graph of a backward: which parameters are in it."""
        self._backwards += 1
        names = [self.name(leaf) for leaf in leaves]
        for leaf, name in zip(leaves, names, strict=True):
            self._reached[name] = self._reached.get(name, 0) + 1
            self._tensors.setdefault(name, leaf)
        self._note_initial()
        return sorted(names)

    def note_held(self, tensors: list[torch.Tensor], optimizer: int) -> None:
        """These tensors belong to this optimizer."""
        for tensor in tensors:
            self._held.setdefault(self.name(tensor), optimizer)
            self._tensors.setdefault(self.name(tensor), tensor)

    def before_step(self, tensors: list[torch.Tensor]) -> None:
        """Before the very first update: how everything started."""
        self._note_initial()
        for tensor in tensors:
            self._start(self.name(tensor), tensor)

    def _note_initial(self) -> None:
        if self._initial:
            return
        for _, root in self._recorder.naming.live_roots():
            for parameter in root.parameters():
                self._start(self.name(parameter), parameter)

    def _start(self, name: str, tensor: torch.Tensor) -> None:
        if name in self._initial:
            return
        with torch.no_grad():
            self._tensors[name] = tensor
            self._first[name] = sample(tensor)
            self._initial[name] = {
                **_statistics(tensor),
                "equal_units": _equal_units(tensor),
            }

    def sample_gradients(self, step: int, tensors: list[torch.Tensor], optimizer: int) -> None:
        """Size of every gradient and parameter that this optimizer holds."""
        held = [(self.name(tensor), tensor) for tensor in tensors]
        gradients = [(name, tensor) for name, tensor in held if tensor.grad is not None]
        sizes = norms([tensor.grad for _, tensor in gradients if tensor.grad is not None])
        weights = norms([tensor for _, tensor in held])
        found = {name: rms(size, tensor) for (name, tensor), size in zip(gradients, sizes, strict=True)}
        self._gradients.append(
            {
                "step": step,
                "optimizer": optimizer,
                "gradient_rms": [found.get(name) for name, _ in held],
                "weight_rms": [rms(size, tensor) for (_, tensor), size in zip(held, weights, strict=True)],
                "names": [name for name, _ in held],
            }
        )

    def report(self) -> None:
        """Events for roots, modules, parameters and gradients."""
        emit, recorder = self._recorder.stream.emit, self._recorder
        if recorder.plan.light:
            return
        self._note_initial()
        registered: set[str] = set()
        for index, root in recorder.naming.live_roots():
            trainable = sum(p.numel() for p in root.parameters() if p.requires_grad)
            emit(
                "root",
                index=index,
                kind=type(root).__name__,
                parameters=sum(p.numel() for p in root.parameters()),
                trainable=trainable,
                created=recorder.naming.created_line(root),
                inside=recorder.batches.called_inside.get(index),
            )
            own = naming.authored(root, lambda file: recorder.frames.name(file) is not None)
            for path, module in root.named_modules():
                calls = self._calls.get((index, path), [0, 0])
                emit(
                    "module",
                    root=index,
                    path=path,
                    kind=type(module).__name__,
                    settings=naming.settings(module),
                    parameters=sum(p.numel() for p in module.parameters(recurse=False)),
                    calls=calls[0],
                    training_calls=calls[1],
                    created=recorder.naming.created_line(module),
                    wanted=recorder.naming.wanted_line(module),
                    authored=path in own,
                    builtin=type(module).__module__.startswith("torch."),
                    training=module.training,
                )
            for parameter in root.parameters():
                registered.add(self.name(parameter))
        for name, tensor in list(self._tensors.items()):
            if name in registered or name in self._reached or name in self._held:
                self._report_parameter(name, tensor, name in registered)
        for record in self._gradients:
            emit("gradients", **record)

    def _report_parameter(self, name: str, tensor: torch.Tensor, registered: bool) -> None:
        recorder = self._recorder
        owner = recorder.naming.owner(tensor)
        initial = self._initial.get(name) or {**_statistics(tensor), "equal_units": _equal_units(tensor)}
        first = self._first.get(name)
        moved: float | None = None
        if first is not None and first.shape == sample(tensor).shape:
            distance, size = float((sample(tensor) - first).norm()), float(first.norm())
            moved = distance / size if size else (math.inf if distance else 0.0)
        owning = owner[2] if owner else None
        recorder.stream.emit(
            "parameter",
            name=name,
            shape=list(tensor.shape),
            root=owner[0] if owner else None,
            module=recorder.naming.place(owning)[1] if owning is not None else "",
            module_kind=type(owning).__name__ if owning is not None else "",
            registered=registered,
            requires_grad=tensor.requires_grad,
            optimizer=self._held.get(name),
            still_equal_units=_equal_units(tensor),
            reached=self._reached.get(name, 0),
            backwards_sampled=self._backwards,
            moved=moved,
            created=recorder.naming.created_line(owning) if owning is not None else None,
            initialised=self._initialised.get(id(tensor)),
            leaf_parameter=isinstance(tensor, nn.Parameter),
            **initial,
        )


def _statistics(tensor: torch.Tensor) -> dict[str, Any]:
    if not tensor.numel() or tensor.is_complex():
        return {"mean": 0.0, "std": 0.0, "zero_share": 0.0, "finite": True}
    values = tensor.detach().float()
    return {
        "mean": float(values.mean()),
        "std": float(values.std(correction=0)),
        "zero_share": 1.0 - float(values.count_nonzero()) / values.numel(),
        "finite": bool(torch.isfinite(values).all()),
    }


def _equal_units(tensor: torch.Tensor) -> bool:
    if tensor.dim() < 2 or tensor.shape[0] < 2 or not tensor.numel() or tensor.is_sparse:
        return False
    values = tensor.detach()
    return bool(torch.equal(values[:1].expand_as(values), values))
