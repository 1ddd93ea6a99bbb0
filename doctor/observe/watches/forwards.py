"""Forwards and what becomes of their graphs: whether a backward ran through them, how long they live, in which mode."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch
from torch import nn

from doctor.observe import holders
from doctor.observe.graph import Walk
from doctor.observe.naming import settings
from doctor.observe.watch import Watch

_MODE_SENSITIVE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
_MOST_FORWARDS = 4000
_MOST_OUTPUTS = 6
_MANY_ALIVE = 8  # graphs of earlier steps at which their holder is looked for


class _Use:
    """Called by autograd when a backward passes the output of one forward; lives as long as the forward's graph."""

    __slots__ = ("__weakref__", "_record", "_watch")

    def __init__(self, record: dict[str, Any], watch: ForwardWatch) -> None:
        self._record, self._watch = record, weakref.ref(watch)

    def __call__(self, gradients: Any) -> None:
        """Note the step; the gradients stay as they are."""
        watch = self._watch()
        if watch is not None and (not self._record["used"] or self._record["used"][-1] != watch.recorder.step):
            self._record["used"].append(watch.recorder.step)

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the forward."""
        return self._record


class ForwardWatch(Watch):
    """Every forward with gradients, and every change of mode."""

    def install(self) -> None:
        """Listen to modes and to walked graphs."""
        self._forwards: list[dict[str, Any]] = []
        self._alive: weakref.WeakSet[_Use] = weakref.WeakSet()
        self._sensitive: weakref.WeakKeyDictionary[nn.Module, list[tuple[nn.Module, bool]]] = (
            weakref.WeakKeyDictionary()
        )
        self._slept: dict[int, list[Any]] = {}
        self._evaluations: dict[int, int] = {}
        self._grown: list[list[int]] = []
        self._holder: dict[str, Any] | None = None
        self._collected = 0
        self._roots: list[tuple[int, Any, bool, int]] = []
        self._twice: list[dict[str, Any]] = []
        self._through: dict[str, Any] | None = None
        self.recorder.on_walk.append(self.guarded(self._walked))
        self.recorder.patches.wrap(nn.Module, "eval", self._sleeps)

    def _sleeps(self, original: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # Outermost call only: `eval` goes down by `train(False)`.
        root, path = self.recorder.naming.place(module)
        if root >= 0 and not self.recorder.busy:
            self._slept[root] = [self.recorder.frames.line(), self._evaluations.get(root, 0), path]
        return original(module, *args, **kwargs)

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Put a mark into the graph of what it returned."""
        recorder = self.recorder
        root, path = recorder.naming.place(module)
        outputs = _differentiable(result)
        if not outputs:
            self._evaluations[root] = self._evaluations.get(root, 0) + 1
            return
        if len(self._forwards) >= _MOST_FORWARDS:
            return
        slept = self._slept.get(root)
        parts = self._parts(module)
        record = {
            "root": root,
            "path": path,
            "kind": type(module).__name__,
            "line": recorder.frames.line(),
            "step": recorder.step,
            "backward": recorder.backwards,
            "training": module.training,
            "sensitive": len(parts),
            "asleep": sum(not part.training for part, _ in parts),
            "fresh_norms": any(_fresh(part) for part, norm in parts if norm and not part.training),
            "norms_only": all(norm for _, norm in parts),
            "slept": slept[0] if slept else None,
            "evaluated_since": self._evaluations.get(root, 0) - slept[1] if slept else 0,
            "nodes": [output.grad_fn._sequence_nr() for output in outputs if output.grad_fn is not None],
            "used": [],
            "held": 0,
        }
        self._forwards.append(record)
        use = _Use(record, self)
        for output in outputs:
            if output.grad_fn is not None:
                output.grad_fn.register_prehook(use)
        self._alive.add(use)
        record["held"] = sum(
            other.record["line"] == record["line"] and not other.record["used"] for other in self._alive
        )

    def _parts(self, module: nn.Module) -> list[tuple[nn.Module, bool]]:
        known = self._sensitive.get(module)
        if known is None:
            found = [part for part in module.modules() if isinstance(part, _MODE_SENSITIVE)]
            found = [part for part in found if settings(part).get("p", 1)]
            known = [(part, isinstance(part, nn.modules.batchnorm._BatchNorm)) for part in found]
            self._sensitive[module] = known
        return known

    def _walked(self, losses: list[torch.Tensor], walk: Walk, again: bool) -> None:
        recorder = self.recorder
        now = recorder.step
        number = losses[0].grad_fn._sequence_nr() if losses[0].grad_fn is not None else -1
        line = recorder.frames.line()
        self._roots = [known for known in self._roots if known[3] == now]
        earlier = next((known for known in self._roots if known[0] in walk.sequence_numbers and not known[2]), None)
        if earlier is not None and not again and _holds_gradients(walk.leaves):
            self._twice.append({"step": now, "first": earlier[1], "second": line, "same": earlier[0] == number})
        self._roots.append((number, line, again, now))
        old = {
            node
            for f in self._forwards[-200:]
            if f["used"] and f["used"][-1] < now and f["step"] < now
            for node in f["nodes"]
        }
        reached = old & walk.sequence_numbers
        if reached and self._through is None:
            found = holders.find(recorder.frames, old, least=1)
            self._through = {"step": now, "line": line, "forwards": len(reached), "holder": found}

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the graphs of earlier steps that are still there."""
        step = self.recorder.step
        older = [use for use in self._alive if use.record["step"] < step - 2]
        if len(older) >= _MANY_ALIVE and self._collected < 2:
            self._collected += 1
            gc.collect()  # what hangs in a cycle of references is no leak
            older = [use for use in self._alive if use.record["step"] < step - 2]
            if len(older) >= _MANY_ALIVE and self._holder is None:
                old = {node for use in older for node in use.record["nodes"]}
                self._holder = holders.find(self.recorder.frames, old, least=4)
        self._grown.append([step, len(older)])

    def finish(self) -> None:
        """Write every place of forwards, and what was seen of graphs."""
        emit = self.recorder.stream.emit
        for record in self._forwards:
            emit("forward", **{name: value for name, value in record.items() if name != "nodes"})
        emit(
            "graphs",
            grown=self._grown,
            collected=self._collected,
            holder=self._holder,
            twice=self._twice[:20],
            through=self._through,
        )


def _differentiable(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result] if result.requires_grad else []
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    found = [tensor for value in values for tensor in _differentiable(value)]
    return found[:_MOST_OUTPUTS]


def _fresh(part: nn.Module) -> bool:
    counted = getattr(part, "num_batches_tracked", None)
    return isinstance(counted, torch.Tensor) and not int(counted)


def _holds_gradients(leaves: list[torch.Tensor]) -> bool:
    held = [leaf.grad for leaf in leaves if leaf.grad is not None][:4]
    return any(not gradient.is_sparse and bool(gradient.count_nonzero()) for gradient in held)
