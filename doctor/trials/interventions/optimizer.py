"""Interventions on the training loop: rates, gradients, steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.observe import graph
from doctor.observe.optimizers import parameters_of
from doctor.trials.interventions.base import Intervention, WatchingMode


class ScaleLearningRate(Intervention):
    """Scales the rate for the moment of each step, so that every kind of schedule keeps its shape."""

    treats = "scale-learning-rate"

    def install(self) -> None:
        """Around every step."""
        self._saved: list[tuple[dict[str, Any], Any]] = []
        self.recorder.before_step.append(self._scale)
        self.recorder.after_step.append(self._restore)

    def _scale(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            if "lr" in group:
                self._saved.append((group, group["lr"]))
                group["lr"] = group["lr"] * self.plan["factor"]

    def _restore(self, optimizer: torch.optim.Optimizer) -> None:
        while self._saved:
            group, rate = self._saved.pop()
            group["lr"] = rate


class ClearGradients(Intervention):
    """Clears what the last step left, before the first backward after it."""

    treats = "clear-gradients"

    def install(self) -> None:
        """After steps and before backwards."""
        self._due: list[torch.optim.Optimizer] = []
        self.recorder.after_step.append(lambda optimizer: self._due.append(optimizer))
        self.recorder.before_backward.append(self._clear)

    def _clear(self, losses: list[torch.Tensor]) -> None:
        due, self._due = self._due, []
        for optimizer in due:
            if self.concerns(optimizer):
                for tensor in parameters_of(optimizer):
                    tensor.grad = None


class StepAfterBackward(Intervention):
    """Steps after every backward."""

    treats = "step-after-backward"

    def install(self) -> None:
        """Around backward."""
        self.recorder.before_backward.append(self._clear)
        self.recorder.after_backward.append(self._step)

    def _clear(self, losses: list[torch.Tensor]) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()

    def _step(self, losses: list[torch.Tensor]) -> None:
        for optimizer in self.optimizers():
            optimizer.step()


class BackwardBeforeStep(Intervention):
    """Runs backward from the scalar that was computed last."""

    treats = "backward-before-step"

    def install(self) -> None:
        """Watch every operation for scalars that need a gradient."""
        self._last: torch.Tensor | None = None
        self._mode = WatchingMode(self._note)
        self._mode.__enter__()
        self.recorder.before_step.append(self._backward)

    def remove(self) -> None:
        """Stop watching."""
        self._mode.__exit__(None, None, None)

    def _note(self, result: Any) -> None:
        if isinstance(result, torch.Tensor) and result.dim() == 0 and result.requires_grad:
            self._last = result

    def _backward(self, optimizer: torch.optim.Optimizer) -> None:
        loss, self._last = self._last, None
        if loss is not None and self.concerns(optimizer):
            for tensor in parameters_of(optimizer):
                tensor.grad = None
            with torch.enable_grad():
                torch.autograd.backward(loss)


class OptimizeReachedParameters(Intervention):
    """Adds what the loss reaches and no optimizer holds to the first group of the optimizer."""

    treats = "optimize-reached-parameters"

    def install(self) -> None:
        """At the first backwards."""
        self._left = 3
        self.recorder.before_backward.append(self._add)

    def _add(self, losses: list[torch.Tensor]) -> None:
        chosen = self.optimizers()
        if not self._left or not chosen:
            return
        self._left -= 1
        held = {
            id(tensor)
            for watched in self.recorder.stepping.all
            for optimizer in [watched.optimizer()]
            if optimizer is not None
            for tensor in parameters_of(optimizer)
        }
        leaves = graph.walk(losses).leaves
        new = [leaf for leaf in leaves if isinstance(leaf, nn.Parameter) and id(leaf) not in held]
        if new:
            for leaf in new:
                leaf.grad = None
            chosen[0].param_groups[0]["params"].extend(new)


class ClipGradients(Intervention):
    """Clips the global norm before each step."""

    treats = "clip-gradients"

    def install(self) -> None:
        """Before steps."""
        self.recorder.before_step.append(self._clip)

    def _clip(self, optimizer: torch.optim.Optimizer) -> None:
        torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), self.plan["max_norm"])
