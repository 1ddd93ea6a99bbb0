"""In which order the ids come that models are called with in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.observe import entries
from doctor.observe.watch import Watch

_MOST_CALLS = 200
_LEAST = 8  # ids a call


class IdOrderWatch(Watch):
    """One whole number a sample: whether they rise within each call, and from call to call."""

    def install(self) -> None:
        """Nothing to patch."""
        self._fields: dict[Any, dict[str, Any]] = {}

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A model returned: note the ids that it was called with."""
        entry = entries.entry(self.recorder, module, args, kwargs, result)
        if entry is None or entry.kind != "train":
            return
        for position, (name, value) in enumerate(entry.named):
            if value.is_floating_point() or value.dtype == torch.bool or value.dim() != 1 or len(value) < _LEAST:
                continue
            known = self._fields.setdefault(
                (entry.place, position, name),
                {"line": self.recorder.frames.line(), "name": name, "root": entry.place[0], "step": -1, "calls": []},
            )
            if known["step"] == self.recorder.step or len(known["calls"]) >= _MOST_CALLS:
                continue  # the first call of a step: the second may score negatives for the same users
            known["step"] = self.recorder.step
            rising = bool((value.diff() >= 0).all())
            known["calls"].append((int(value[0]), int(value[-1]), rising))

    def finish(self) -> None:
        """One event a field."""
        for known in self._fields.values():
            known.pop("step")
            self.recorder.stream.emit("id-order", **known)
