"""Optimizers: how each was made and called, and the vitals of every step."""

from __future__ import annotations

import math
import time
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from doctor.observe import frames, optimizers, setting_lines
from doctor.observe.frames import Line
from doctor.observe.optimizers import Watched

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder


class StepWatch:
    """All optimizers of the program, in the order of their creation."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.all: list[Watched] = []
        self.zero_grads = 0
        self.clips = 0
        self.schedulers: list[str] = []
        self._by_id: dict[int, Watched] = {}
        self._handles: list[Any] = []

    def install(self) -> None:
        """Put the hooks in place."""
        patches = self._recorder.patches
        patches.wrap(torch.optim.Optimizer, "__init__", self._optimizer_created)
        patches.wrap(torch.optim.Optimizer, "zero_grad", self._zero_grad)
        patches.wrap(torch.nn.Module, "zero_grad", self._module_cleared)
        patches.wrap(torch.optim.lr_scheduler.LRScheduler, "__init__", self._scheduler_created)
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            patches.wrap(torch.nn.utils.clip_grad, name, self._clipped)
            patches.set(torch.nn.utils, name, getattr(torch.nn.utils.clip_grad, name))
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def remove(self) -> None:
        """Take the hooks on steps away."""
        for handle in self._handles:
            handle.remove()

    def live(self) -> bool:
        """Whether an optimizer exists."""
        return any(watched.optimizer() is not None for watched in self.all)

    def of(self, optimizer: torch.optim.Optimizer) -> Watched | None:
        """What is known of this optimizer."""
        return self._by_id.get(id(optimizer))

    def describe(self) -> None:
        """Write the head of every optimizer that has none yet."""
        for watched in self.all:
            self._describe(watched)

    def note_before_backward(self) -> None:
        """Which of the last step's gradients are still there."""
        for watched in self.all:
            watched.note_before_backward()

    def note_backward(self, loss: float | None, line: Line | None) -> None:
        """A backward from this loss."""
        for watched in self.all:
            watched.losses.append(loss if loss is not None else math.nan)
            watched.backwards += 1
            watched.unused = True
            watched.backward_source = watched.backward_source or line

    def report(self) -> None:
        """One closing event an optimizer."""
        for watched in self.all:
            self._describe(watched)
            self._recorder.stream.emit("optimizer-end", **self._optimizer_end(watched))

    # -- hooks --------------------------------------------------------------------------------------------------

    def _optimizer_created(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        if id(optimizer) in self._by_id and self._by_id[id(optimizer)].optimizer() is optimizer:
            return
        predecessor = self._predecessor(optimizer)
        if predecessor is not None:
            predecessor.optimizer = weakref.ref(optimizer)
            self._by_id[id(optimizer)] = predecessor
            return
        watched = Watched(
            len(self.all),
            type(optimizer).__name__,
            weakref.ref(optimizer),
            self._recorder.frames.line(),
            self._recorder.step,
            tensors=[weakref.ref(tensor) for tensor in optimizers.parameters_of(optimizer)],
            by_library=frames.called_by("transformers.trainer"),
        )
        self.all.append(watched)
        self._by_id[id(optimizer)] = watched

    def _predecessor(self, optimizer: torch.optim.Optimizer) -> Watched | None:
        """The record of an optimizer that is made anew over the same tensors after it has stepped: both are one."""
        tensors = optimizers.parameters_of(optimizer)
        for watched in reversed(self.all):
            alike = watched.kind == type(optimizer).__name__ and len(watched.tensors) == len(tensors)
            if watched.steps and alike and all(ref() is p for ref, p in zip(watched.tensors, tensors, strict=True)):
                return watched
        return None

    def _scheduler_created(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        self.schedulers.append(type(scheduler).__name__)
        original(scheduler, *args, **kwargs)

    def _clipped(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self.clips += 1
        return original(*args, **kwargs)

    def _zero_grad(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        self.zero_grads += 1
        watched = self._by_id.get(id(optimizer))
        if watched is not None:
            watched.zero_grads += 1
            watched.note_clearing()
            watched.carried, watched.left_over = 0.0, []
            watched.zero_grad_source = watched.zero_grad_source or self._recorder.frames.line()
        return original(optimizer, *args, **kwargs)

    def _module_cleared(self, original: Any, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        first = next(module.parameters(), None)
        for watched in self.all:
            if first is not None and any(reference() is first for reference in watched.tensors):
                watched.zero_grad_source = watched.zero_grad_source or self._recorder.frames.line()
                watched.note_clearing()
        return original(module, *args, **kwargs)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if self._recorder.budget_reached:
            self._recorder.stop()
        watched = self._by_id.get(id(optimizer))
        if watched is None:
            return None
        watched.step_source = watched.step_source or self._recorder.frames.line()
        self._recorder.note_source("step")
        closure = args[1] if len(args) > 1 and callable(args[1]) else kwargs.get("closure")
        if closure is None:
            self._measure_before(optimizer, watched)
            return None
        first = True

        def observed_closure(*inner: Any, **more: Any) -> Any:
            nonlocal first
            result = closure(*inner, **more)
            if first:
                first = False
                self._measure_before(optimizer, watched)
            return result

        if len(args) > 1:
            return (args[0], observed_closure, *args[2:]), kwargs
        return args, {**kwargs, "closure": observed_closure}

    def _measure_before(self, optimizer: torch.optim.Optimizer, watched: Watched) -> None:
        recorder = self._recorder
        recorder.moment("before_step", optimizer)
        recorder.busy = True
        with torch.no_grad(), recorder.taping.quiet():
            tensors = optimizers.parameters_of(optimizer)
            self._describe(watched)
            if not recorder.plan.light:
                recorder.parameters.before_step(tensors)
            optimizers.take_before(watched, tensors)
            if recorder.step in recorder.plan.activation_steps and not recorder.plan.light:
                recorder.parameters.sample_gradients(recorder.step, tensors, watched.index)
        recorder.busy = False

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        recorder = self._recorder
        watched = self._by_id.get(id(optimizer))
        if watched is None:
            return
        with torch.no_grad(), recorder.taping.quiet():
            tensors = optimizers.parameters_of(optimizer)
            ratio, norm = optimizers.update_ratio(watched)
            losses = [loss for loss in watched.losses if not math.isnan(loss)] or watched.losses
            recorder.stream.emit(
                "step",
                index=recorder.step,
                optimizer=watched.index,
                loss=sum(losses) / len(losses) if losses else None,
                lr=_rate(optimizer),
                gradient_norm=optimizers.total(watched.gradient_norms) if watched.gradient_norms else None,
                parameter_norm=norm,
                update_ratio=ratio,
                backwards=watched.backwards,
                carried=watched.carried if watched.steps else None,
                held=len(watched.gradient_norms),
                at=time.perf_counter(),
            )
            watched.steps += 1
            watched.fresh_steps += watched.unused
            for each in self.all:
                each.unused = False
            watched.losses, watched.backwards = [], 0
            watched.note_left_over(tensors)
        recorder.moment("after_step", optimizer)
        recorder.end_step()

    def _describe(self, watched: Watched) -> None:
        optimizer = watched.optimizer()
        if watched.described or optimizer is None:
            return
        watched.described = True
        tensors = optimizers.parameters_of(optimizer)
        self._recorder.parameters.note_held(tensors, watched.index)
        self._recorder.stream.emit(
            "optimizer",
            index=watched.index,
            kind=watched.kind,
            parameters=[self._recorder.parameters.name(tensor) for tensor in tensors],
            settings=optimizers.settings(optimizer),
            groups=len(optimizer.param_groups),
            created=watched.created,
            created_at_step=watched.created_at_step,
        )

    def _optimizer_end(self, watched: Watched) -> dict[str, Any]:
        return {
            "index": watched.index,
            "kind": watched.kind,
            "created": watched.created,
            "setting_lines": self._recorder.frames.read(
                setting_lines.setting_lines, watched.created, watched.by_library
            ),
            "step_source": watched.step_source,
            "zero_grad_source": watched.zero_grad_source,
            "backward_source": watched.backward_source,
            "steps": watched.steps,
            "zero_grads": watched.zero_grads,
            "discarded": watched.discarded,
            "fresh_steps": watched.fresh_steps,
        }


def _rate(optimizer: torch.optim.Optimizer) -> float:
    rate = optimizer.param_groups[0].get("lr", math.nan) if optimizer.param_groups else math.nan
    return float(rate)
