"""Where dropout is applied, and how much of the output's variation it makes up."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_DRAWS = 6  # forwards with other masks
_MOST_SECONDS = 0.5
_MOST_PARAMETERS = 30_000_000
_MOST_SAMPLES = 64


class DropoutWatch(Watch):
    """Every call of a dropout function in training, and the noise in the output of the captured training batch."""

    def install(self) -> None:
        """In front of the functions; the modules call them, too."""
        self._places: dict[tuple[Any, ...], dict[str, Any]] = {}
        for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"):
            self.recorder.patches.wrap(nn.functional, name, self._around)

    def _around(self, original: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        p = kwargs.get("p", args[0] if args else 0.5)
        training = kwargs.get("training", args[1] if len(args) > 1 else True)
        if training and torch.is_grad_enabled() and isinstance(p, float | int) and isinstance(input, torch.Tensor):
            self.guarded(self._note)(float(p), input)
        return original(input, *args, **kwargs)

    def _note(self, p: float, input: torch.Tensor) -> None:
        recorder = self.recorder
        if recorder.step not in recorder.plan.activation_steps:
            return
        line = recorder.frames.line()
        root, path = recorder.naming.place(recorder.stack[-1]) if recorder.stack else (0, "")
        known = self._places.setdefault((tuple(line or ()), root, path), {"calls": 0})
        known["calls"] += 1
        known |= {"p": p, "shape": list(input.shape), "line": line, "root": root, "path": path}
        known["on_data"] = not input.requires_grad

    def finish(self) -> None:
        """Measure the noise of every captured model, and tell the places."""
        for place in self._places.values():
            self.recorder.stream.emit("dropout", **place)
        for root, capture in self.recorder.captures.latest.items():
            if any(place["root"] == root and place["p"] > 0 for place in self._places.values()):
                noise = self._noise(capture.module, capture.args, capture.kwargs)
                if noise is not None:
                    self.recorder.stream.emit("dropout-noise", root=root, signal=noise[0], noise=noise[1])

    def _noise(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[float, float] | None:
        """Variance of the mean output over the samples, and mean variance over the masks."""
        if sum(parameter.numel() for parameter in module.parameters()) > _MOST_PARAMETERS:
            return None
        model = copy.deepcopy(module).train()
        began, outputs = time.monotonic(), []
        device = next(model.parameters()).device
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            for _ in range(_DRAWS):
                output = _tensor(model(*args, **kwargs))
                if output is None or output.dim() < 1 or len(output) < 4 or not output.is_floating_point():
                    return None
                outputs.append(output[:_MOST_SAMPLES].double().reshape(min(len(output), _MOST_SAMPLES), -1))
                if time.monotonic() - began > _MOST_SECONDS / _DRAWS * 3 and len(outputs) == 1:
                    return None
        drawn = torch.stack(outputs)
        noise = float(drawn.var(0).mean())
        # The mean over few masks still holds their noise.
        signal = float(drawn.mean(0).var(0).mean()) - noise / len(outputs)
        return max(signal, 0.0), noise


def _tensor(result: Any) -> torch.Tensor | None:
    if isinstance(result, torch.Tensor):
        return result
    if hasattr(result, "logits"):
        return _tensor(result.logits)
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    return next((value for value in values if isinstance(value, torch.Tensor)), None)
