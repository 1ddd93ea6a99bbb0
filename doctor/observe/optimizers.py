"""What happens around optimizers: which gradients a step used, and how far it moved the parameters."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch

from doctor.observe.frames import Line

_SAMPLE = 8192  # elements of a large tensor that stand for it in update ratios

Tensors = list[torch.Tensor]


def parameters_of(optimizer: torch.optim.Optimizer) -> Tensors:
    """All tensors that the optimizer steps."""
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def sample(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of an evenly spread sample of the elements, as float32 (all of them where they are few)."""
    flat = tensor.detach()
    if flat.is_sparse or flat.layout != torch.strided:
        flat = flat.to_dense()
    flat = flat.reshape(-1) if flat.is_contiguous() else flat.contiguous().view(-1)
    stride = max(1, flat.numel() // _SAMPLE)
    return flat[::stride].to(torch.float32, copy=True)


def norms(tensors: Tensors) -> list[float]:
    """L2 norm of each tensor (one pass over the data)."""
    dense = [tensor.detach() for tensor in tensors]
    if not dense:
        return []
    if any(tensor.is_sparse or tensor.layout != torch.strided for tensor in dense):
        return [float(tensor.coalesce().values().norm() if tensor.is_sparse else tensor.norm()) for tensor in dense]
    floats = [tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor for tensor in dense]
    found = torch._foreach_norm(floats)
    if len({(norm.device, norm.dtype) for norm in found}) > 1:
        return [float(norm) for norm in found]
    return [float(value) for value in torch.stack(found).tolist()]


def total(values: list[float]) -> float:
    """L2 norm of norms."""
    return math.sqrt(sum(value * value for value in values)) if values else 0.0


def rms(norm: float, tensor: torch.Tensor) -> float:
    """Root mean square of the elements, from the norm."""
    return norm / math.sqrt(max(1, tensor.numel()))


@dataclass(frozen=True)
class Sampled:
    """Evenly spread elements of a parameter, as a view of it; `scale` is how many elements each stands for."""

    tensor: torch.Tensor
    view: torch.Tensor
    scale: float


@dataclass
class Watched:
    """What is known of one optimizer while it lives."""

    index: int
    kind: str
    optimizer: weakref.ref[torch.optim.Optimizer]
    created: Line | None
    created_at_step: int
    # what it was made with; an optimizer of the same kind over the same tensors goes on under the same record
    tensors: list[weakref.ref[torch.Tensor]] = field(default_factory=list)
    by_library: bool = False  # made by the Trainer of transformers, from its arguments
    steps: int = 0
    zero_grads: int = 0
    backwards: int = 0
    unused: bool = False  # a backward came, and no optimizer has stepped since
    discarded: int = 0  # backwards whose gradients were cleared before any optimizer stepped
    fresh_steps: int = 0  # steps right after a backward: what they use was neither cleared nor put there by hand
    described: bool = False
    step_source: Line | None = None
    zero_grad_source: Line | None = None
    backward_source: Line | None = None
    # state of the gradients right after the last step: (tensor, gradient, version); None once seen cleared
    left_over: list[tuple[torch.Tensor, torch.Tensor, int]] = field(default_factory=list)
    carried: float = 0.0
    losses: list[float] = field(default_factory=list)
    samples: list[Sampled] = field(default_factory=list)
    before: list[torch.Tensor] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def note_left_over(self, parameters: Tensors) -> None:
        """After a step: remember the gradients that are still in place."""
        self.left_over = [(p, p.grad, p.grad._version) for p in parameters if p.grad is not None]
        self.carried = float(len(self.left_over)) and 1.0

    def note_clearing(self) -> None:
        """Before gradients are cleared: whether anything has used them."""
        held = (reference() for reference in self.tensors)
        if self.unused and any(p is not None and p.grad is not None for p in held):
            self.discarded += 1
        self.unused = False

    def note_before_backward(self) -> None:
        """Before a backward: which of the last step's gradients have not been cleared since."""
        if not self.left_over:
            self.carried = 0.0
            return
        kept = [entry for entry in self.left_over if _still_there(*entry)]
        self.carried = min(self.carried, len(kept) / len(self.left_over))
        self.left_over = [(tensor, gradient, gradient._version) for tensor, gradient, _ in kept]


def _still_there(tensor: torch.Tensor, gradient: torch.Tensor, version: int) -> bool:
    if tensor.grad is not gradient:
        return False
    # An untouched version was not cleared in place. A touched one may also have been clipped or accumulated upon.
    return gradient._version == version or bool(
        gradient.detach().count_nonzero() > 0 if not gradient.is_sparse else True
    )


def take_before(watched: Watched, parameters: Tensors) -> None:
    """Before the update: gradient norms, and the samples from which the update ratio follows."""
    watched.gradient_norms = norms([p.grad for p in parameters if p.grad is not None])
    floating = [p for p in parameters if p.is_floating_point() and p.numel()]
    if len(watched.samples) != len(floating) or any(
        known.tensor is not p or known.view.data_ptr() != p.data_ptr()
        for known, p in zip(watched.samples, floating, strict=True)
    ):
        watched.samples = [_sampled(p) for p in floating]
    # One fused call for all of them: small networks have many small tensors.
    watched.before = list(torch._foreach_mul([s.view for s in watched.samples], 1.0)) if watched.samples else []


def _sampled(tensor: torch.Tensor) -> Sampled:
    flat = tensor.detach()
    # A view, so that it follows the parameter from step to step; what has no flat view is measured along its first axis.
    flat = flat.view(-1) if flat.is_contiguous() else flat
    stride = max(1, flat.numel() // _SAMPLE) if flat.dim() == 1 else 1
    view = flat[::stride]
    return Sampled(tensor, view, tensor.numel() / max(1, view.numel()))


def update_ratio(watched: Watched) -> tuple[float | None, float | None]:
    """After the update: |after - before| / |before|, and |before|, over the samples scaled to the whole tensors."""
    if not watched.before:
        return None, None
    before, watched.before = watched.before, []
    moved_each = norms(list(torch._foreach_sub([s.view for s in watched.samples], before)))
    held_each = norms(before)
    scales = [s.scale for s in watched.samples]
    moved = sum(value * value * scale for value, scale in zip(moved_each, scales, strict=True))
    held = sum(value * value * scale for value, scale in zip(held_each, scales, strict=True))
    if held == 0.0:
        return (math.inf if moved > 0 else 0.0), 0.0
    ratio = math.sqrt(moved / held) if math.isfinite(moved) and moved >= 0 else math.nan
    return ratio, math.sqrt(held) if math.isfinite(held) else math.nan


def settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The plain settings of the first group."""
    if not optimizer.param_groups:
        return {}
    found: dict[str, Any] = {}
    for name, value in optimizer.param_groups[0].items():
        if name == "params":
            continue
        if isinstance(value, torch.Tensor):
            value = float(value)
        if isinstance(value, bool | int | float | str) or value is None:
            found[name] = value
        elif isinstance(value, tuple) and all(isinstance(part, int | float) for part in value):
            for index, part in enumerate(value):
                found[f"{name}[{index}]"] = part
    return found
