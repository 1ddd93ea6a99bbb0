"""Units of activation functions: which of them are zero for every sample, which values sit at a bound."""

from __future__ import annotations

from typing import Any

import torch

from doctor.observe.naming import Naming
from doctor.observe.stream import Stream


class UnitWatch:
    """Accumulates over the sampled steps, one record a place (module, line, and order within the step)."""

    def __init__(self, naming: Naming) -> None:
        self._places: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._seen_this_step: dict[tuple[Any, ...], int] = {}
        self._naming = naming
        self._step = -1

    def begin(self, step: int) -> None:
        """A new sampled step begins."""
        self._step = step
        self._seen_this_step = {}

    def note(self, function: str, where: dict[str, Any], before: torch.Tensor, after: torch.Tensor) -> None:
        """One call of an activation function: its input and its output."""
        if after.dim() < 2 or not after.numel() or not torch.is_grad_enabled():
            return
        key: tuple[Any, ...] = (function, where.get("module"), tuple(where.get("line") or ()), tuple(after.shape[1:]))
        order = self._seen_this_step.get(key, 0)
        self._seen_this_step[key] = order + 1
        if order >= 8:  # a recurrent loop: its first turns stand for all
            return
        key = (*key[:3], order)
        with torch.no_grad():
            axis = 1 if after.dim() == 4 else after.dim() - 1
            units = after.detach().movedim(axis, 0).reshape(after.shape[axis], -1)
            alive = units.ne(0).any(1) if function in ("relu", "threshold") else None
            record = self._places.get(key)
            if record is None or record["units"] != units.shape[0]:
                record = self._places[key] = {
                    "function": function,
                    "module": where.get("module") or "",
                    "line": where.get("line"),
                    "units": units.shape[0],
                    "batches": 0,
                    "samples": 0,
                    "alive": None,
                    "zero": 0.0,
                    "saturated": 0.0,
                    "mean": 0.0,
                    "std": 0.0,
                }
            record["batches"] += 1
            record["samples"] += after.shape[0]
            record["zero"] += 1.0 - float(units.count_nonzero()) / units.numel()
            record["mean"] += float(before.detach().float().mean()) if function[-1] != "_" else 0.0
            record["std"] += float(before.detach().float().std(correction=0))
            if alive is not None:
                record["alive"] = alive if record["alive"] is None else record["alive"] | alive
                record["last_dead"] = 1.0 - float(alive.float().mean())
            else:
                low, high = (0.0, 1.0) if function == "sigmoid" else (-1.0, 1.0)
                edge = 0.01 * (high - low)
                at_bound = (units < low + edge) | (units > high - edge)
                record["saturated"] += float(at_bound.float().mean())

    def report(self, stream: Stream) -> None:
        """One event a place."""
        for record in self._places.values():
            batches = record["batches"]
            alive = record["alive"]
            stream.emit(
                "units",
                function=record["function"],
                module=record["module"],
                line=record["line"],
                units=record["units"],
                batches=batches,
                samples=record["samples"],
                dead_share=0.0 if alive is None else 1.0 - float(alive.float().mean()),
                last_dead_share=record.get("last_dead", 0.0),
                zero_share=record["zero"] / batches,
                saturated_share=record["saturated"] / batches,
                input_mean=record["mean"] / batches,
                input_std=record["std"] / batches,
            )
