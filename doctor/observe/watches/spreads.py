"""How much the outputs of a model differ from sample to sample, at its first calls and at its last."""

from __future__ import annotations

from typing import Any

from torch import nn

from doctor.observe import entries
from doctor.observe.watch import Watch

_LEAST_SAMPLES = 8
_LEAST_VALUES = 4
_MOST_VALUES = 1_000_000
_EVERY = 5  # steps


class SpreadWatch(Watch):
    """Deviation between samples over the root mean square, of outputs `(samples, values)` in training."""

    def install(self) -> None:
        """Nothing to patch."""
        self._spreads: dict[tuple[int, str], dict[str, Any]] = {}

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A model returned."""
        if self.recorder.step % _EVERY or not module.training:
            return
        entry = entries.entry(self.recorder, module, args, kwargs, result)
        if entry is None or entry.kind != "train" or entry.output.dim() != 2:
            return
        output = entry.output.detach()
        if len(output) < _LEAST_SAMPLES or not _LEAST_VALUES <= output.shape[1] <= _MOST_VALUES // len(output):
            return
        size = float(output.double().square().mean().sqrt())
        spread = float((output - output.mean(0)).double().square().mean().sqrt()) / size if size > 0 else 0.0
        known = self._spreads.setdefault(entry.place, {"first": spread, "line": self.recorder.frames.line()})
        known.update(last=spread, step=self.recorder.step)

    def finish(self) -> None:
        """One event a model."""
        for place, known in self._spreads.items():
            self.recorder.stream.emit("output-spread", place=place, **known)
