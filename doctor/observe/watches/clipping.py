"""Clipped gradients: where, at which limit, how large they were, and between which backward and which step."""

from __future__ import annotations

import math
from typing import Any

import torch

from doctor.observe import optimizers
from doctor.observe.watch import Watch

_MOST = 60  # calls at each line whose norms are kept


class ClipWatch(Watch):
    """Calls of `clip_grad_norm_` and `clip_grad_value_`, and how hand-written code changes gradients."""

    def install(self) -> None:
        """Around both functions."""
        self._places: dict[tuple[Any, ...], dict[str, Any]] = {}
        # by optimizer: the number of backwards before its last step
        self._stepped: dict[int, int] = {}
        self._norm: float | None = None
        self._ratios: list[float] = []
        patches = self.recorder.patches
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            patches.wrap(torch.nn.utils.clip_grad, name, self._around(name))
            patches.set(torch.nn.utils, name, getattr(torch.nn.utils.clip_grad, name))

    def _around(self, name: str) -> Any:
        def clipped(original: Any, parameters: Any, *args: Any, **kwargs: Any) -> Any:
            # A generator can be read only once: it must reach the function whole.
            tensors = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            limit = args[0] if args else kwargs.get("max_norm", kwargs.get("clip_value"))
            known = self.guarded(self._before)
            known(name, tensors, limit)
            return original(tensors, *args, **kwargs)

        return clipped

    def _before(self, name: str, tensors: list[torch.Tensor], limit: Any) -> None:
        recorder = self.recorder
        line = recorder.frames.line()
        place = self._places.setdefault(
            (name, tuple(line or ())),
            {
                "function": name, "line": line, "calls": 0, "limit": float(limit), "misplaced": 0, "empty": 0,
                "norms": [], "largest": [], "optimizer": None, "elements": 0,
            },
        )  # fmt: skip
        place["calls"] += 1
        place["optimizer"] = self._owner(tensors)
        place["misplaced"] += recorder.backwards == self._stepped.get(place["optimizer"], 0)
        if place["calls"] > _MOST:
            return
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        place["empty"] += not gradients
        if not gradients:
            return
        place["elements"] = sum(gradient.numel() for gradient in gradients)
        place["norms"].append(_finite(optimizers.total(optimizers.norms(gradients))))
        largest = max(float(gradient.abs().max()) for gradient in gradients if gradient.numel()) if gradients else 0.0
        place["largest"].append(_finite(largest))

    def _owner(self, tensors: list[torch.Tensor]) -> int | None:
        wanted = {id(tensor) for tensor in tensors}
        for watched in self.recorder.stepping.all:
            optimizer = watched.optimizer()
            if optimizer is not None and any(id(tensor) in wanted for tensor in optimizers.parameters_of(optimizer)):
                return watched.index
        return None

    def after_backward(self, losses: list[torch.Tensor]) -> None:
        """The norm that backward left."""
        self._norm = self._total() if self.recorder.step in self.recorder.plan.activation_steps else None

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The norm that the step uses."""
        if self._norm and len(self._ratios) < _MOST:
            norm = self._total()
            if norm is not None and math.isfinite(norm) and math.isfinite(self._norm):
                self._ratios.append(norm / self._norm)
        self._norm = None

    def _total(self) -> float | None:
        alive = [watched.optimizer() for watched in self.recorder.stepping.all]
        if len(alive) != 1 or alive[0] is None:
            return None
        return optimizers.total(
            optimizers.norms([p.grad for p in optimizers.parameters_of(alive[0]) if p.grad is not None])
        )

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """From here until the next backward, clipping comes too late."""
        watched = self.recorder.stepping.of(optimizer)
        if watched is not None:
            self._stepped[watched.index] = self.recorder.backwards

    def finish(self) -> None:
        """One event a line, and the ratios."""
        for place in self._places.values():
            self.recorder.stream.emit("clip", **place)
        if self._ratios:
            self.recorder.stream.emit("gradient-change", ratios=self._ratios)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
