"""Whether parameters with a gradient move, and stay where the step has put them; which operation kills a gradient."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

from doctor.observe.graph import Walk
from doctor.observe.optimizers import parameters_of
from doctor.observe.watch import Watch

_ELEMENTS = 256
_MOST_NODES = 4000
_MOST_PARAMETERS = 400


class UpdateWatch(Watch):
    """A few elements of every parameter around the sampled steps."""

    def install(self) -> None:
        """Listen to walked graphs."""
        self._before: dict[int, list[tuple[torch.Tensor, torch.Tensor, bool]]] = {}
        self._after: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._facts: dict[str, dict[str, int]] = {}
        self._rates: dict[tuple[int, int], dict[str, Any]] = {}
        self._suspicious = False
        self._killers: list[dict[str, Any]] = []
        self._handles: list[Any] = []
        self.recorder.on_walk.append(self.guarded(self._walked))

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Compare with the last sampled step, and take the elements again."""
        recorder = self.recorder
        for handle in self._handles:
            handle.remove()
        self._handles = []
        watched = recorder.stepping.of(optimizer)
        if watched is None:
            return
        for number, group in enumerate(optimizer.param_groups):
            self._note_rate(watched.index, number, group)
        for tensor, start in self._after.pop(watched.index, []):
            if torch.equal(_few(tensor), start):
                self._fact(tensor)["restored"] += 1
        if recorder.step not in recorder.plan.activation_steps:
            return
        held = [p for p in parameters_of(optimizer) if p.grad is not None and not p.grad.is_sparse and p.numel()]
        held = held[:_MOST_PARAMETERS]
        if recorder.step == 0:
            self._suspicious = any(p.dim() > 1 and not bool(p.grad.count_nonzero()) for p in held if p.grad is not None)
        self._before[watched.index] = [
            (p, _few(p), bool(_few(p.grad).count_nonzero())) for p in held if p.grad is not None
        ]

    def _note_rate(self, optimizer: int, number: int, group: dict[str, Any]) -> None:
        known = self._rates.get((optimizer, number))
        if known is None:
            known = self._rates[(optimizer, number)] = {
                "optimizer": optimizer,
                "group": number,
                "highest": 0.0,
                "steps": 0,
                "names": [self.recorder.parameters.name(p) for p in group["params"][:40]],
                "elements": sum(p.numel() for p in group["params"]),
                "with_gradient": 0,
            }
        known["steps"] += 1
        known["highest"] = max(known["highest"], float(group.get("lr", 1.0)))
        if known["highest"] == 0.0 and known["steps"] <= 4:
            known["with_gradient"] += any(p.grad is not None and bool((p.grad != 0).any()) for p in group["params"][:8])

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Which of them moved."""
        watched = self.recorder.stepping.of(optimizer)
        taken = self._before.pop(watched.index, []) if watched is not None else []
        for tensor, start, pulled in taken:
            fact = self._fact(tensor)
            moved = not torch.equal(_few(tensor), start)
            fact["sampled"] += 1
            fact["pulled"] += pulled
            fact["still"] += pulled and not moved
            fact["moved"] += moved
            if moved and watched is not None:
                self._after.setdefault(watched.index, []).append((tensor, start))

    def _fact(self, tensor: torch.Tensor) -> dict[str, int]:
        name = self.recorder.parameters.name(tensor)
        return self._facts.setdefault(name, {"sampled": 0, "pulled": 0, "still": 0, "moved": 0, "restored": 0})

    # -- where a gradient ends ------------------------------------------------------------------------------------

    def _walked(self, losses: list[torch.Tensor], walk: Walk, again: bool) -> None:
        if not self._suspicious or self.recorder.step != 1 or again or len(walk.names) > _MOST_NODES or self._killers:
            return
        tape = self.recorder.taping.mode
        ops = {op["node"]: op for op in tape.ops} if tape is not None and tape.keep_ops else {}
        queue: deque[Any] = deque(loss.grad_fn for loss in losses if loss.grad_fn is not None)
        seen = set(queue)
        while queue:
            node = queue.popleft()
            if getattr(node, "variable", None) is None:
                self._handles.append(node.register_hook(self._listener(node.name(), ops.get(node._sequence_nr()))))
            for parent, _ in node.next_functions:
                if parent is not None and parent not in seen:
                    seen.add(parent)
                    queue.append(parent)

    def _listener(self, name: str, op: dict[str, Any] | None) -> Any:
        def look(inputs: Any, outputs: Any) -> None:
            given = [g for g in inputs if isinstance(g, torch.Tensor)]
            taken = [g for g in outputs if isinstance(g, torch.Tensor)]
            with torch.no_grad(), self.recorder.taping.quiet():
                alive = any(bool((g != 0).any()) for g in taken)
                if given and alive and not any(bool((g != 0).any()) for g in given):
                    place = {"line": op["line"], "module": op.get("module", ""), "op": op["name"]} if op else {}
                    self._killers.append({"node": name, **place})

        return look

    def finish(self) -> None:
        """What moved, and what ends a gradient."""
        emit = self.recorder.stream.emit
        for name, fact in self._facts.items():
            emit("update", name=name, **fact)
        for rate in self._rates.values():
            emit("group-rate", **rate)
        for killer in self._killers[:20]:
            emit("gradient-end", **killer)


def _few(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _ELEMENTS)].clone()
