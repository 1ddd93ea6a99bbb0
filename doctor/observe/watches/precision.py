"""Mixed precision: autocast regions, and what is done with a GradScaler."""

from __future__ import annotations

from typing import Any

import torch
from torch.amp import grad_scaler

from doctor.observe.watch import Watch


class PrecisionWatch(Watch):
    """Autocast in training, and the order of scale, unscale, clip and step."""

    def install(self) -> None:
        """Around autocast and the scaler's methods."""
        self._regions: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._scaler: dict[str, Any] = {
            "made": 0, "enabled": False, "created": None, "scales": 0, "unscales": 0, "steps": 0, "updates": 0,
            "scale_line": None, "clips_before_unscale": 0, "clip_line": None, "scaled_backwards": 0,
            "plain_steps": 0, "plain_step_line": None,
        }  # fmt: skip
        self._open = False  # gradients are scaled and not unscaled since
        self._stepping = False
        wrap = self.recorder.patches.wrap
        wrap(torch.amp.autocast_mode.autocast, "__enter__", self._entered)
        wrap(torch.amp.autocast_mode.autocast, "__init__", self._autocast)
        kind = grad_scaler.GradScaler
        wrap(kind, "__init__", self._made)
        for name in ("scale", "unscale_", "step", "update"):
            wrap(kind, name, getattr(self, f"_{name.rstrip('_')}"))
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            self.recorder.patches.wrap(torch.nn.utils.clip_grad, name, self._clipped)
            self.recorder.patches.set(torch.nn.utils, name, getattr(torch.nn.utils.clip_grad, name))

    def _autocast(self, original: Any, region: Any, *args: Any, **kwargs: Any) -> None:
        original(region, *args, **kwargs)
        wanted = kwargs.get("enabled", args[2] if len(args) > 2 else True)
        # Where the device is missing torch turns autocast off; what was asked for is what runs on the user's machine.
        region.__dict__["_doctor_wanted"] = bool(wanted)

    def _entered(self, original: Any, region: Any) -> Any:
        if torch.is_grad_enabled() and region.__dict__.get("_doctor_wanted", True):
            line = self.recorder.frames.line()
            key = (region.device, str(region.fast_dtype), tuple(line or ()))
            found = self._regions.setdefault(
                key,
                {"device": region.device, "dtype": str(region.fast_dtype)[6:], "line": line, "entered": 0},
            )
            found["entered"] += 1
        return original(region)

    def _made(self, original: Any, scaler: Any, *args: Any, **kwargs: Any) -> None:
        wanted = kwargs.get("enabled", True)
        original(scaler, *args, **kwargs)
        self._scaler["made"] += 1
        self._scaler["enabled"] |= bool(wanted)
        self._scaler["created"] = self._scaler["created"] or self.recorder.frames.line()

    def _scale(self, original: Any, scaler: Any, *args: Any, **kwargs: Any) -> Any:
        self._scaler["scales"] += 1
        self._scaler["scale_line"] = self._scaler["scale_line"] or self.recorder.frames.line()
        self._open = True
        return original(scaler, *args, **kwargs)

    def _unscale(self, original: Any, scaler: Any, *args: Any, **kwargs: Any) -> Any:
        self._scaler["unscales"] += 1
        self._open = False
        return original(scaler, *args, **kwargs)

    def _step(self, original: Any, scaler: Any, *args: Any, **kwargs: Any) -> Any:
        self._scaler["steps"] += 1
        self._open, self._stepping = False, True
        try:
            return original(scaler, *args, **kwargs)
        finally:
            self._stepping = False

    def _update(self, original: Any, scaler: Any, *args: Any, **kwargs: Any) -> Any:
        self._scaler["updates"] += 1
        return original(scaler, *args, **kwargs)

    def _clipped(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        if self._open:
            self._scaler["clips_before_unscale"] += 1
            self._scaler["clip_line"] = self._scaler["clip_line"] or self.recorder.frames.line()
        return original(*args, **kwargs)

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A step outside of the scaler's."""
        if self._open and not self._stepping:
            self._scaler["plain_steps"] += 1
            self._scaler["plain_step_line"] = self._scaler["plain_step_line"] or self.recorder.frames.line()
        self._open = False

    def finish(self) -> None:
        """The events."""
        for region in self._regions.values():
            self.recorder.stream.emit("autocast", **region)
        if self._regions or self._scaler["made"]:
            half = [p for _, root in self.recorder.naming.live_roots() for p in root.parameters()]
            share = sum(p.dtype == torch.float16 for p in half) / max(1, len(half))
            self.recorder.stream.emit("precision", half_share=share, **self._scaler)
