"""How optimizers are made and stepped: settings of every group, doubles, and optimizers made anew."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from doctor.observe.frames import Line
from doctor.observe.optimizers import parameters_of
from doctor.observe.watch import Watch

_SETTINGS = ("lr", "weight_decay", "momentum", "dampening", "nesterov", "eps", "alpha", "decoupled_weight_decay")
_STATEFUL = ("betas", "momentum", "alpha", "rho", "beta1")
_MOST_LOOKS = 40  # repeated steps whose gradients are looked at


class OptimizationWatch(Watch):
    """Creations, repeated steps, tensors held twice."""

    def install(self) -> None:
        """Notice every new optimizer."""
        self._created: list[dict[str, Any]] = []
        self._groups: dict[int, list[dict[str, Any]]] = {}
        self._held_twice: dict[int, int] = {}
        self._running: list[int] = []
        # by id of the optimizer: the number of backwards before its last step, and the line of that step
        self._last: dict[int, tuple[weakref.ref[torch.optim.Optimizer], int, Line | None]] = {}
        self._repeated: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._touched: dict[int, int] = {}
        self._loads = 0
        self._looks = 0
        self.recorder.patches.wrap(torch.optim.Optimizer, "__init__", self._made)
        self.recorder.patches.wrap(torch.nn.Module, "load_state_dict", self._loaded)

    def _made(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        self.guarded(self._note_creation)(optimizer)

    def _loaded(self, original: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        self._loads += 1
        return original(module, *args, **kwargs)

    def _note_creation(self, optimizer: torch.optim.Optimizer) -> None:
        watched = self.recorder.stepping.of(optimizer)
        if watched is None:
            return
        tensors = parameters_of(optimizer)
        before = self._touched.get(watched.index)
        self._created.append(
            {
                "optimizer": watched.index,
                "kind": type(optimizer).__name__,
                "line": self.recorder.frames.line(),
                "step": watched.steps,
                "stateful": any(_keeps_state(group) for group in optimizer.param_groups),
                "loads": self._loads,
                "untouched": before is not None and before == _versions(tensors),
            }
        )

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Whether this step uses gradients that another step has used already."""
        self._running.append(id(optimizer))
        if len(self._running) > 1:
            return  # one optimizer that wraps another: one step
        watched = self.recorder.stepping.of(optimizer)
        if watched is None:
            return
        if watched.index not in self._groups:
            self._groups[watched.index] = [_group(group) for group in optimizer.param_groups]
            tensors = parameters_of(optimizer)
            self._held_twice[watched.index] = len(tensors) - len({id(tensor) for tensor in tensors})
        line = self.recorder.frames.line()
        for key, (reference, backwards, earlier) in list(self._last.items()):
            other = reference()
            if other is None:
                del self._last[key]
            elif backwards == self.recorder.backwards and self._looks < _MOST_LOOKS:
                shared = _shared(optimizer, other)
                if shared:
                    self._looks += 1
                    self._note_repeat(optimizer, other, shared, earlier, line)

    def _note_repeat(self, optimizer: Any, other: Any, shared: int, earlier: Line | None, line: Line | None) -> None:
        stepping = self.recorder.stepping
        one, two = stepping.of(optimizer), stepping.of(other)
        if one is None or two is None:
            return
        key = (id(optimizer), id(other), tuple(line or ()), tuple(earlier or ()))
        found = self._repeated.setdefault(
            key,
            {
                "optimizer": one.index,
                "other": two.index,
                "same": optimizer is other,
                "line": line,
                "earlier": earlier,
                "count": 0,
                "shared": shared,
            },
        )
        found["count"] += 1

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember when it stepped, and how its tensors are."""
        if self._running:
            self._running.pop()
        if self._running:
            return
        watched = self.recorder.stepping.of(optimizer)
        if watched is None:
            return
        self._last[id(optimizer)] = (weakref.ref(optimizer), self.recorder.backwards, self.recorder.frames.line())
        self._touched[watched.index] = _versions(parameters_of(optimizer))

    def finish(self) -> None:
        """The events."""
        emit = self.recorder.stream.emit
        for record in self._created:
            emit("optimizer-made", **record)
        for record in self._repeated.values():
            emit("repeated-step", **record)
        for index, groups in self._groups.items():
            emit("optimizer-groups", optimizer=index, groups=groups, held_twice=self._held_twice[index])


def _shared(optimizer: torch.optim.Optimizer, other: torch.optim.Optimizer) -> int:
    """How many tensors with a gradient that is not zero both hold."""
    theirs = {id(tensor) for tensor in parameters_of(other)}
    both = [tensor for tensor in parameters_of(optimizer) if id(tensor) in theirs and tensor.grad is not None]
    sample = both[:3] + both[-3:]
    alive = any(tensor.grad is not None and bool(tensor.grad.count_nonzero()) for tensor in sample)
    return len(both) if alive else 0


def _keeps_state(group: dict[str, Any]) -> bool:
    for name in _STATEFUL:
        value = group.get(name)
        if isinstance(value, tuple) or (isinstance(value, int | float) and value > 0):
            return True
    return False


def _group(group: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"tensors": len(group["params"])}
    for name in _SETTINGS:
        value = group.get(name)
        if isinstance(value, bool | int | float):
            found[name] = value
    betas = group.get("betas")
    if isinstance(betas, tuple | list) and all(isinstance(beta, int | float) for beta in betas):
        found["betas"] = list(betas)
    found["norm"] = float(sum(float(p.detach().float().square().sum()) for p in group["params"])) ** 0.5
    return found


def _versions(tensors: list[torch.Tensor]) -> int:
    return sum(tensor._version for tensor in tensors)
