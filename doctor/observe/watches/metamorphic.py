"""Experiments on captured calls after the program has ended: what the model must not do, tried on its own batch."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from doctor.observe.capture import Capture
from doctor.observe.metamorphic import batch, causal, normalisation, order, padded, sensitivity
from doctor.observe.metamorphic.call import Call
from doctor.observe.metamorphic.layout import next_steps, padding, samples
from doctor.observe.metamorphic.session import OutOfTimeError, Session
from doctor.observe.metamorphic.trace import Trace
from doctor.observe.watch import Watch

_MOST_SECONDS = 1.5
_SHARE = 0.25  # of the program's own time, on top of a base
_BASE_SECONDS = 0.3
_MOST_CALLS = 4
_MOST_TARGETS = 4
_MOST_TARGET_ELEMENTS = 2_000_000
_LOSSES = ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
           "binary_cross_entropy_with_logits", "binary_cross_entropy", "gaussian_nll_loss", "poisson_nll_loss")  # fmt: skip
_EXPERIMENTS: tuple[tuple[str, Callable[[Session], dict[str, Any] | None]], ...] = (
    ("causality", causal.causality),
    ("independence", batch.independence),
    ("normalisation", normalisation.gap),
    ("padding", padded.invariance),
    ("ignored", sensitivity.ignored),
    ("order", order.blindness),
)


class MetamorphicWatch(Watch):
    """Keeps what the captured calls lack (targets, the loader's batch size, their duration), and experiments."""

    def install(self) -> None:
        """Listen to losses."""
        self._targets: dict[tuple[int, str], list[torch.Tensor]] = {}
        self._loader_rows: dict[tuple[int, str], int | None] = {}
        self._seconds: dict[tuple[int, str], float] = {}
        self._open: set[tuple[int, str]] = set()
        self._entered = 0.0
        for name in _LOSSES:
            self.recorder.patches.wrap(nn.functional, name, self._loss)
        self.recorder.patches.wrap(nn.functional, "ctc_loss", self._ctc)

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A captured call begins."""
        recorder = self.recorder
        if recorder.step not in recorder.plan.activation_steps:
            self._open.clear()
            return
        key = recorder.naming.place(module)
        capture = recorder.captures.calls.get(key)
        if capture is None or capture.step != recorder.step or not module.training:
            return
        self._open.add(key)
        self._targets[key] = []
        loaders = recorder.loaders
        last = loaders._last if loaders._last is not None else -1
        self._loader_rows[key] = loaders.records[last]["batch_size"] if last >= 0 else None
        self._entered = time.monotonic()

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """It ends."""
        if self._open:
            self._seconds[self.recorder.naming.place(module)] = time.monotonic() - self._entered

    def _loss(self, original: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        if self._open and isinstance(target, torch.Tensor) and getattr(input, "requires_grad", False):
            self.guarded(self._keep)(target)
        return original(input, target, *args, **kwargs)

    def _ctc(self, original: Any, log_probs: Any, *args: Any, **kwargs: Any) -> Any:
        """Log-probabilities `(time, samples, classes)` tell how many samples there are, where no loader does."""
        if self._open and isinstance(log_probs, torch.Tensor) and log_probs.requires_grad and log_probs.dim() == 3:
            for key in self._open:
                if self._loader_rows.get(key) is None:
                    self._loader_rows[key] = log_probs.shape[1]
        return original(log_probs, *args, **kwargs)

    def _keep(self, target: torch.Tensor) -> None:
        if target.numel() > _MOST_TARGET_ELEMENTS or target.requires_grad:
            return
        copy = target.detach().clone()
        for key in self._open:
            if len(self._targets[key]) < _MOST_TARGETS:
                self._targets[key].append(copy)

    def finish(self) -> None:
        """All experiments that fit into the time, on the captured calls in the order of their size."""
        recorder = self.recorder
        if recorder.compiled or recorder.step < 5:
            return
        deadline = time.monotonic() + min(_MOST_SECONDS, _SHARE * recorder.elapsed() + _BASE_SECONDS)
        calls = sorted(recorder.captures.calls.values(), key=lambda capture: -_size(capture.module))
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for capture in calls[:_MOST_CALLS]:
                    self._examine(capture, deadline)
        finally:
            logging.disable(logging.NOTSET)

    def _examine(self, capture: Capture, deadline: float) -> None:
        key = (capture.root, capture.path)
        event: dict[str, Any] = {
            "root": capture.root, "path": capture.path, "kind": type(capture.module).__name__, "line": capture.line,
            "step": capture.step, "deterministic": None, "notes": [],
        }  # fmt: skip
        if time.monotonic() + 3 * self._seconds.get(key, 0.0) > deadline:
            return
        call = Call(capture)
        try:
            session = self._session(call, key, deadline, event)
            if session is not None:
                event["forward_line"] = session.forward_line()
                for name, experiment in _EXPERIMENTS:
                    try:
                        event[name] = experiment(session)
                    except OutOfTimeError:
                        event["notes"].append(f"{name}: no time left")
                    except Exception as failure:
                        event["notes"].append(f"{name}: {type(failure).__name__}: {failure}"[:200])
        finally:
            call.restore()
        self.recorder.stream.emit("experiments", **event)

    def _session(
        self, call: Call, key: tuple[int, str], deadline: float, event: dict[str, Any]
    ) -> Session | None:  # fmt: skip
        """The call made twice: a model that answers differently the second time cannot be experimented on."""
        began = time.monotonic()
        try:
            outputs = call.run()
        except Exception:
            call.need_gradients()
            try:
                outputs = call.run()
            except Exception as failure:
                event["notes"].append(f"not repeatable: {type(failure).__name__}: {failure}"[:200])
                return None
        seconds = time.monotonic() - began
        if not outputs.tensors or not outputs.finite() or time.monotonic() + 2 * seconds > deadline:
            event["notes"].append("no finite outputs to compare" if outputs.tensors else "no outputs to compare")
            return None
        trace = Trace(self.recorder.frames, keep=False)
        again = call.run(watching=trace)
        event["deterministic"] = len(again.tensors) == len(outputs.tensors) and all(
            torch.equal(a, b) for (_, a), (_, b) in zip(outputs.tensors, again.tensors, strict=True)
        )
        if not event["deterministic"]:
            return None
        targets = self._targets.get(key, [])
        session = Session(self.recorder, call, outputs, seconds, deadline, targets, trace)
        session.next_step = next_steps(call, targets)
        session.samples = samples(call, outputs, targets, self._loader_rows.get(key), session.next_step)
        session.padding = padding(call)
        return session


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
