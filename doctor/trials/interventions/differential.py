"""Questions to the program: one batch, targets at random, another optimizer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from doctor.observe import graph
from doctor.trials.interventions.base import ByFunction, Intervention

_LOSSES = frozenset(
    {"cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
     "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "gaussian_nll_loss"}
)  # fmt: skip


def _trains(args: Any, kwargs: Any) -> bool:
    """Whether this call of a loss has a target, and a prediction that trains."""
    target = args[1] if len(args) > 1 else kwargs.get("target")
    source = args[0] if args else kwargs.get("input")
    return isinstance(target, torch.Tensor) and target.dim() > 0 and bool(getattr(source, "requires_grad", False))


class RepeatBatch(ByFunction):
    """The first batch again and again: of each loader, or, where no loader gives the batches, of each model's training
    call and of each loss.
    """

    treats = "repeat-batch"

    def install(self) -> None:
        """Where loaders give their batches, models are called, and losses get their targets."""
        self._first: dict[int, Any] = {}
        self._calls: dict[int, Any] = {}
        self._targets: dict[tuple[Any, ...], torch.Tensor] = {}
        self.recorder.loaders.on_batch = self._again
        self._handle = register_module_forward_pre_hook(self._same_call)
        super().install()

    def remove(self) -> None:
        """Take the hooks away."""
        self._handle.remove()
        super().remove()

    def _again(self, loader: int, batch: Any) -> Any:
        return self._first.setdefault(loader, batch)

    def _same_call(self, module: nn.Module, args: Any) -> Any:
        if self._first or len(self.recorder.stack) != 1 or not torch.is_grad_enabled():
            return None
        if not any(isinstance(value, torch.Tensor) for value in args) or next(module.parameters(), None) is None:
            return None
        known: Any = self._calls.setdefault(self.recorder.naming.place(module)[0], args)
        return known

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Give the loss the target of the first batch."""
        if not self._first and name in _LOSSES and _trains(args, kwargs):
            line = tuple(self.recorder.frames.line() or ())
            target = args[1] if len(args) > 1 else kwargs["target"]
            known = self._targets.setdefault((name, *line), target)
            args, kwargs = (
                ((args[0], known, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "target": known})
            )
        return func(*args, **kwargs)

    def notes(self) -> list[dict[str, Any]]:
        """How many loaders, or losses, were held."""
        held = len(self._first) or min(len(self._calls), len(self._targets))
        return [{"kind": self.treats, "held": held}]


class DealTargets(ByFunction):
    """Targets at random, by a generator of its own."""

    treats = "deal-targets"

    def install(self) -> None:
        """In front of every loss."""
        self._generator = torch.Generator().manual_seed(1)
        self._dealt = 0
        super().install()

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Permute the target along its first axis, in training."""
        if name in _LOSSES and _trains(args, kwargs):
            target = args[1] if len(args) > 1 else kwargs["target"]
            order = torch.randperm(len(target), generator=self._generator).to(target.device)
            self._dealt += 1
            if len(args) > 1:
                args = (args[0], target[order], *args[2:])
            else:
                kwargs = {**kwargs, "target": target[order]}
        return func(*args, **kwargs)

    def notes(self) -> list[dict[str, Any]]:
        """How many losses it reached."""
        return [{"kind": self.treats, "losses": self._dealt}]


class ReferenceOptimizer(Intervention):
    """Adam (Kingma and Ba, 2015) after each backward; what the program's own step does is undone."""

    treats = "reference-optimizer"

    def install(self) -> None:
        """Around backward and step."""
        self._state: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._leaves: list[torch.Tensor] = []
        self._steps = 0
        self._kept: list[torch.Tensor] = []
        self.recorder.before_backward.append(self._clear)
        self.recorder.after_backward.append(self._step)
        self.recorder.before_step.append(self._keep)
        self.recorder.after_step.append(self._undo)

    def _clear(self, losses: list[torch.Tensor]) -> None:
        if self._steps < 3:
            known = {id(leaf) for leaf in self._leaves}
            self._leaves += [leaf for leaf in graph.walk(losses).leaves if id(leaf) not in known]
        for leaf in self._leaves:
            leaf.grad = None

    def _step(self, losses: list[torch.Tensor]) -> None:
        self._steps += 1
        rate = self.plan["learning_rate"] * math.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        with torch.no_grad():
            for leaf in self._leaves:
                if leaf.grad is None or not torch.isfinite(leaf.grad).all():
                    continue
                gradient = leaf.grad.to_dense() if leaf.grad.is_sparse else leaf.grad
                zero = (torch.zeros_like(leaf), torch.zeros_like(leaf))
                first, second = self._state.setdefault(id(leaf), zero)
                first.lerp_(gradient, 0.1)
                second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                leaf.sub_(rate * first / (second.sqrt() + 1e-8))

    def _keep(self, optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            self._kept = [leaf.clone() for leaf in self._leaves]

    def _undo(self, optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            for leaf, value in zip(self._leaves, self._kept, strict=False):
                leaf.copy_(value)
