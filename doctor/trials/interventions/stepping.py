"""Interventions around a step: its gradients, its state, its settings, its rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.observe.optimizers import parameters_of
from doctor.trials.interventions.base import Intervention

_Saved = list[tuple[dict[str, Any], str, Any]]


class AroundStep(Intervention):
    """Changes something for the moment of a step."""

    def install(self) -> None:
        """Before and after every step."""
        self._saved: _Saved = []
        self._counts: dict[int, int] = {}
        self.recorder.before_step.append(self._before)
        self.recorder.after_step.append(self._after)

    def _before(self, optimizer: torch.optim.Optimizer) -> None:
        watched = self.recorder.stepping.of(optimizer)
        wanted = self.plan.get("optimizer")
        if watched is None or (wanted is not None and watched.index != wanted):
            return
        count = self._counts.get(watched.index, 0)
        self._counts[watched.index] = count + 1
        for position, group in enumerate(optimizer.param_groups):
            self.change(group, count, (watched.index, position))

    def set(self, group: dict[str, Any], name: str, value: Any) -> None:
        """Until the step is done."""
        if name in group:
            self._saved.append((group, name, group[name]))
            group[name] = value

    def _after(self, optimizer: torch.optim.Optimizer) -> None:
        while self._saved:
            group, name, value = self._saved.pop()
            group[name] = value

    def change(self, group: dict[str, Any], count: int, key: tuple[int, int]) -> None:
        """Change one group; `count` steps of its optimizer were made before."""


class ScaleGradients(AroundStep):
    """Scales the gradients."""

    treats = "scale-gradients"

    def change(self, group: dict[str, Any], count: int, key: tuple[int, int]) -> None:
        """In place, before the step."""
        with torch.no_grad():
            for tensor in group["params"]:
                if tensor.grad is not None:
                    tensor.grad.mul_(self.plan["factor"])


class ScaleWeightDecay(AroundStep):
    """Scales weight decay."""

    treats = "scale-weight-decay"

    def change(self, group: dict[str, Any], count: int, key: tuple[int, int]) -> None:
        """Where the group has any."""
        if group.get("weight_decay"):
            self.set(group, "weight_decay", group["weight_decay"] * self.plan["factor"])


class ChangeSettings(AroundStep):
    """Other momentum, betas, eps."""

    treats = "change-settings"

    def change(self, group: dict[str, Any], count: int, key: tuple[int, int]) -> None:
        """The settings that the plan names."""
        for name in ("momentum", "dampening", "eps", "alpha", "betas"):
            value = self.plan.get(name)
            if value is not None:
                self.set(group, name, tuple(value) if isinstance(value, list) else value)


class Warmup(AroundStep):
    """Raises the rate linearly."""

    treats = "warmup"

    def change(self, group: dict[str, Any], count: int, key: tuple[int, int]) -> None:
        """A share of the rate."""
        if "lr" in group:
            self.set(group, "lr", group["lr"] * min(1.0, (count + 1) / self.plan["steps"]))


class HoldLearningRate(AroundStep):
    """Steps at the optimizer's own rate."""

    treats = "hold-learning-rate"

    def install(self) -> None:
        """And remember the largest rate."""
        super().install()
        self._largest: dict[tuple[int, int], float] = {}

    def change(self, group: dict[str, Any], count: int, key: tuple[int, int]) -> None:
        """The initial rate, or the largest so far."""
        if "lr" in group:
            self._largest[key] = max(self._largest.get(key, 0.0), float(group["lr"]))
            self.set(group, "lr", group.get("initial_lr", self._largest[key]))


class KeepOptimizer(Intervention):
    """Gives a new optimizer the state of its predecessor."""

    treats = "keep-optimizer"

    def install(self) -> None:
        """Around every step."""
        self._states: dict[tuple[Any, ...], tuple[list[torch.Tensor], dict[Any, Any]]] = {}
        self.recorder.before_step.append(self._give)
        self.recorder.after_step.append(self._take)

    def _give(self, optimizer: torch.optim.Optimizer) -> None:
        known = self._states.get(_key(optimizer))
        if known is not None and not optimizer.state:
            optimizer.state.update(known[1])

    def _take(self, optimizer: torch.optim.Optimizer) -> None:
        self._states[_key(optimizer)] = (parameters_of(optimizer), dict(optimizer.state))


def _key(optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    return type(optimizer).__name__, *(id(tensor) for tensor in parameters_of(optimizer))


class WidenClipping(Intervention):
    """Raises the limits of torch's clipping functions."""

    treats = "widen-clipping"

    def install(self) -> None:
        """Around both."""
        patches = self.recorder.patches
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            patches.wrap(nn.utils.clip_grad, name, self._clip)
            patches.set(nn.utils, name, getattr(nn.utils.clip_grad, name))

    def _clip(self, original: Any, parameters: Any, *args: Any, **kwargs: Any) -> Any:
        if args:
            return original(parameters, args[0] * self.plan["factor"], *args[1:], **kwargs)
        limits = {
            name: value * self.plan["factor"] if name in ("max_norm", "clip_value") else value
            for name, value in kwargs.items()
        }
        return original(parameters, **limits)


class StepOnce(Intervention):
    """Hides gradients from steps that come after another one without a backward between."""

    treats = "step-once"

    def install(self) -> None:
        """Around every step."""
        self._used: dict[int, tuple[torch.Tensor, int]] = {}
        self._hidden: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._depth = 0
        self.recorder.before_step.append(self._before)
        self.recorder.after_step.append(self._after)

    def _before(self, optimizer: torch.optim.Optimizer) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        for group in optimizer.param_groups:
            group["params"] = list(dict.fromkeys(group["params"]))
        now = self.recorder.backwards
        for tensor in parameters_of(optimizer):
            used = self._used.get(id(tensor))
            if used is not None and used[1] == now and tensor.grad is not None:
                self._hidden.append((tensor, tensor.grad))
                tensor.grad = None
            self._used[id(tensor)] = (tensor, now)

    def _after(self, optimizer: torch.optim.Optimizer) -> None:
        self._depth = max(0, self._depth - 1)
        while not self._depth and self._hidden:
            tensor, gradient = self._hidden.pop()
            tensor.grad = gradient


class UnfreezeParameters(Intervention):
    """Lets frozen parameters of a root learn, with the first group's settings."""

    treats = "unfreeze-parameters"

    def install(self) -> None:
        """Before the first forward, and before the first backward."""
        self._thawed: list[nn.Parameter] = []
        self._done = False
        self.recorder.before_entry.append(self._thaw)
        self.recorder.before_backward.append(self._give)

    def _thaw(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._done or self.recorder.naming.place(module)[0] != self.plan["root"]:
            return
        for parameter in module.parameters():
            if not parameter.requires_grad and parameter.is_floating_point():
                parameter.requires_grad_(True)
                self._thawed.append(parameter)

    def _give(self, losses: list[torch.Tensor]) -> None:
        alive = self.optimizers()
        if self._done or not alive:
            return
        self._done = True
        held = {id(tensor) for optimizer in alive for tensor in parameters_of(optimizer)}
        alive[0].param_groups[0]["params"].extend(p for p in self._thawed if id(p) not in held)
