"""The recorder: installs the hooks around a running program and turns what they see into events.

Only reading, under no_grad, and never a random number: an observed program computes what it computes unobserved.
Leans on these internals of PyTorch (seen in 2.4 to 2.13): `Tensor.backward` looks `torch.autograd.backward` up when it
is called; `nn.Module.__call__` is an ordinary attribute; global optimizer hooks run inside every `step`.
"""

from __future__ import annotations

import math
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from doctor.observe import graph, optimizers
from doctor.observe.batches import BatchWatch
from doctor.observe.frames import Line, UserFrames
from doctor.observe.loaders import LoaderWatch
from doctor.observe.naming import Naming
from doctor.observe.optimizers import Watched
from doctor.observe.parameters import ParameterWatch
from doctor.observe.patches import Patches
from doctor.observe.plan import Plan
from doctor.observe.stream import Stream
from doctor.observe.tape import TapeMode
from doctor.observe.units import UnitWatch


class StopObservation(BaseException):
    """Ends the program once enough was seen; no `except Exception` of the user's catches it."""


class Recorder:
    """Watches one program in this process, from `install` to `finish`."""

    def __init__(self, plan: Plan, stream: Stream) -> None:
        self.plan = plan
        self.stream = stream
        self.frames = UserFrames()
        self.naming = Naming()
        self.patches = Patches()
        self.batches = BatchWatch(self)
        self.loaders = LoaderWatch(self)
        self.parameters = ParameterWatch(self)
        self.units = UnitWatch(self.naming)
        self.watched: list[Watched] = []
        self._by_id: dict[int, Watched] = {}
        self.stack: list[nn.Module] = []
        self.step = 0
        self.backwards = 0
        self.forwards = 0
        self.zero_grads = 0
        self.clips = 0
        self.manual_updates = 0
        self.sources: dict[str, Line | None] = {}
        self.tape: TapeMode | None = None
        self.tape_loss: int | None = None
        self._tape_step = 0
        self.failed: dict[str, Any] | None = None
        self.stopping = False
        self.budget_reached = False
        self.schedulers: list[str] = []
        self.compiled = False
        self.before_backward: list[Callable[[list[torch.Tensor]], None]] = []
        self.after_backward: list[Callable[[list[torch.Tensor]], None]] = []
        self.before_step: list[Callable[[torch.optim.Optimizer], None]] = []
        self.after_step: list[Callable[[torch.optim.Optimizer], None]] = []
        self.after_entry: list[Callable[[nn.Module, Any, Any, Any], None]] = []
        self._handles: list[Any] = []
        self._in_step = 0
        self._in_backward = 0
        self.busy = False
        self._started = time.monotonic()
        self._first_step_at: float | None = None
        self._versions: dict[int, int] = {}

    # -- life ---------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put all hooks in place."""
        wrap = self.patches.wrap
        wrap(nn.Module, "__init__", self._module_created)
        self.patches.set(nn.Module, "__call__", self._module_call(nn.Module.__dict__["__call__"]))
        wrap(torch.autograd, "backward", self._backward)
        wrap(torch.optim.Optimizer, "__init__", self._optimizer_created)
        wrap(torch.optim.Optimizer, "zero_grad", self._zero_grad)
        wrap(torch.optim.lr_scheduler.LRScheduler, "__init__", self._scheduler_created)
        wrap(torch, "compile", self._compiled)
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            wrap(torch.nn.utils.clip_grad, name, self._clipped)
            self.patches.set(torch.nn.utils, name, getattr(torch.nn.utils.clip_grad, name))
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        self.batches.install()
        self.parameters.install()
        self.loaders.install()
        self.stream.emit("start", target=self.plan.target, budget=self.plan.steps, torch=torch.__version__)

    def finish(self, outcome: str, **fields: Any) -> None:
        """Take the hooks away and write what was gathered over the whole run."""
        self._close_tape(complete=False)
        for handle in self._handles:
            handle.remove()
        self.patches.undo()
        with torch.no_grad():
            for watched in self.watched:
                self._describe(watched)
                self.stream.emit("optimizer-end", **self._optimizer_end(watched))
            self.parameters.report()
            self.batches.report()
            self.loaders.report()
            self.units.report(self.stream)
        self.stream.emit(
            "end",
            outcome=outcome,
            steps=self.step,
            backwards=self.backwards,
            forwards=self.forwards,
            zero_grads=self.zero_grads,
            clips=self.clips,
            manual_updates=self.manual_updates,
            schedulers=self.schedulers,
            sources=self.sources,
            compiled=self.compiled,
            seconds=time.monotonic() - self._started,
            **fields,
        )
        self.stream.close()

    # -- modules ------------------------------------------------------------------------------------------------

    def _module_created(self, original: Any, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        self.naming.add(module, self.frames.line_outside(module))
        original(module, *args, **kwargs)

    def _module_call(self, original: Any) -> Any:
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            # A compiler that traces the user's code must see the plain call, not the recorder.
            if torch.compiler.is_compiling() or self.busy:
                return original(module, *args, **kwargs)
            entry = not self.stack
            if entry:
                self._before_entry(module, args, kwargs)
            elif not self.plan.light:
                self.batches.note_inner(module, self.stack)
            self.stack.append(module)
            try:
                result = original(module, *args, **kwargs)
            except Exception as failure:
                self._note_failure(failure, module, args, kwargs)
                raise
            finally:
                self.stack.pop()
            if entry:
                self.batches.after_entry(module, result)
                for callback in self.after_entry:
                    callback(module, args, kwargs, result)
            return result

        return call

    def _before_entry(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if isinstance(module, nn.modules.loss._Loss) or next(module.parameters(), None) is None:
            return
        self.forwards += 1
        if torch.is_grad_enabled():
            if self.step == 0 and self.tape is None:
                self._open_tape()
            self._note_source("forward")
        self.batches.before_entry(module, args, kwargs)

    def _note_failure(self, failure: Exception, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.failed is not None and self.failed["exception"]() is failure:
            return
        values = [*args, *kwargs.values()]
        shapes = [list(value.shape) for value in values if isinstance(value, torch.Tensor)]
        text = repr(module)
        self.failed = {
            "exception": weakref.ref(failure) if _weakly(failure) else (lambda: failure),
            "module": self.naming.place(module)[1],
            "module_text": text if len(text) < 300 else type(module).__name__,
            "input_shapes": shapes,
        }

    def context(self) -> dict[str, Any]:
        """The running module and line, for an operation on the tape."""
        found: dict[str, Any] = {"line": self.frames.line()}
        if self.stack:
            module = self.stack[-1]
            root, path = self.naming.place(module)
            found |= {"root": root, "module": path, "kind": type(module).__name__}
        return found

    # -- backward -----------------------------------------------------------------------------------------------

    def _backward(self, original: Any, tensors: Any, *args: Any, **kwargs: Any) -> Any:
        losses = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        self._note_source("backward")
        if self._in_backward:
            return original(tensors, *args, **kwargs)
        line = self.frames.line()
        self.backwards += 1
        for watched in self.watched:
            self._describe(watched)
        self._note_manual_updates()
        sampled = not self.plan.light and (self.backwards <= 3 or self.step in self.plan.activation_steps)
        with torch.no_grad(), _Quiet(self.tape):
            value = _value(losses)
            for watched in self.watched:
                watched.note_before_backward()
        for callback in self.before_backward:
            callback(losses)
        if sampled:
            retain = bool(kwargs.get("retain_graph") or kwargs.get("create_graph"))
            self._walk(losses, line, value, retain)
        else:
            self.batches.forget_entries()
        self.loaders.note_backward()
        if self.tape is not None:
            self.tape_loss = self.tape.tensor_id(losses[0])
            self.tape.begin_backward()
        for watched in self.watched:
            watched.losses.append(value if value is not None else math.nan)
            watched.backwards += 1
            watched.backward_source = watched.backward_source or line
        self.stream.emit("backward", step=self.step, loss=value, line=line)
        self._in_backward += 1
        try:
            result = original(tensors, *args, **kwargs)
        finally:
            self._in_backward -= 1
        for callback in self.after_backward:
            callback(losses)
        if not self._live_optimizers():
            self._end_of_step_without_optimizer()
        return result

    def _walk(self, losses: list[torch.Tensor], line: Line | None, value: float | None, retain: bool) -> None:
        walk = graph.walk(losses)
        self.batches.note_training_entries(walk.sequence_numbers)
        reached = self.parameters.note_reached(walk.leaves)
        self.stream.emit(
            "graph",
            step=self.step,
            line=line,
            loss=value,
            loss_shape=list(losses[0].shape),
            leaf=any(loss.grad_fn is None for loss in losses),
            reached=reached,
            nodes=walk.names[:200],
            retain=retain,
        )

    def _note_manual_updates(self) -> None:
        if self._live_optimizers():
            return
        for _, module in self.naming.live_roots():
            for parameter in module.parameters():
                known = self._versions.get(id(parameter))
                if known is not None and known != parameter._version:
                    self.manual_updates += 1
                    self._versions.clear()
                    return
                self._versions[id(parameter)] = parameter._version

    def _live_optimizers(self) -> bool:
        return any(watched.optimizer() is not None for watched in self.watched)

    def _end_of_step_without_optimizer(self) -> None:
        self._close_tape(complete=True)
        self._first_step_at = self._first_step_at or time.monotonic()
        if self.backwards >= self.plan.steps or self._out_of_time(self.backwards):
            self.stop()
        if self.backwards in self.plan.tape_steps:
            self._open_tape()

    # -- optimizer ----------------------------------------------------------------------------------------------

    def _optimizer_created(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        if id(optimizer) in self._by_id and self._by_id[id(optimizer)].optimizer() is optimizer:
            return
        watched = Watched(
            len(self.watched), type(optimizer).__name__, weakref.ref(optimizer), self.frames.line(), self.step
        )
        self.watched.append(watched)
        self._by_id[id(optimizer)] = watched

    def _scheduler_created(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        self.schedulers.append(type(scheduler).__name__)
        original(scheduler, *args, **kwargs)

    def _compiled(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self.compiled = True
        return original(*args, **kwargs)

    def _clipped(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self.clips += 1
        return original(*args, **kwargs)

    def _zero_grad(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        self.zero_grads += 1
        watched = self._by_id.get(id(optimizer))
        if watched is not None:
            watched.zero_grads += 1
            watched.zero_grad_source = watched.zero_grad_source or self.frames.line()
        return original(optimizer, *args, **kwargs)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if self.budget_reached:
            self.stop()
        watched = self._by_id.get(id(optimizer))
        self._in_step += 1
        if watched is None:
            return None
        watched.step_source = watched.step_source or self.frames.line()
        self._note_source("step")
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
        for callback in self.before_step:
            callback(optimizer)
        self.busy = True
        with torch.no_grad(), _Quiet(self.tape):
            tensors = optimizers.parameters_of(optimizer)
            if not watched.described:
                self._describe(watched)
            if not self.plan.light:
                self.parameters.before_step(self.step, tensors)
            optimizers.take_before(watched, tensors)
            if self.step in self.plan.activation_steps and not self.plan.light:
                self.parameters.sample_gradients(self.step, tensors, watched.index)
        self.busy = False

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._in_step -= 1
        watched = self._by_id.get(id(optimizer))
        if watched is None:
            return
        with torch.no_grad(), _Quiet(self.tape):
            tensors = optimizers.parameters_of(optimizer)
            ratio, norm = optimizers.update_ratio(watched)
            losses = [loss for loss in watched.losses if not math.isnan(loss)] or watched.losses
            self.stream.emit(
                "step",
                index=self.step,
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
            watched.losses, watched.backwards = [], 0
            watched.note_left_over(tensors)
        for callback in self.after_step:
            callback(optimizer)
        self._close_tape(complete=True)
        self.step += 1
        self._first_step_at = self._first_step_at or time.monotonic()
        self.parameters.after_step(self.step)
        if self.step >= self.plan.steps or self.backwards >= 5 * self.plan.steps or self._out_of_time(self.step):
            self._reach_budget()
        elif (
            self.step in self.plan.tape_steps
            or self.step in self.plan.activation_steps
            or self.step == self.plan.hunt_step
        ):
            self._open_tape()

    def _reach_budget(self) -> None:
        # An epoch that draws from a DataLoader is cut short, so that the evaluation behind it is seen, too.
        self.budget_reached = True
        if self.plan.light or self.batches.evaluation_seen() or not self.loaders.can_end_epoch():
            self.stop()

    def _out_of_time(self, count: int) -> bool:
        if self._first_step_at is None or count < self.plan.least_steps:
            return False
        return time.monotonic() - self._first_step_at > self.plan.soft_seconds

    def stop(self) -> None:
        """Enough was seen: end the program."""
        if self.stopping:
            # The program caught the first one and went on: nothing of it may run any further.
            self.finish("budget")
            import os

            os._exit(0)
        self.stopping = True
        raise StopObservation

    # -- tape ---------------------------------------------------------------------------------------------------

    def _open_tape(self) -> None:
        if self.plan.light or self.tape is not None or self.compiled:
            return
        hunting = self.step == self.plan.hunt_step
        keep = hunting or self.step in self.plan.tape_steps
        if not keep and self.step not in self.plan.activation_steps:
            return
        self.tape = TapeMode(self.context, self.parameters.name, values=hunting)
        self.tape.keep_ops = keep
        self.tape.on_activation = self.units.note
        self.tape_loss = None
        self._tape_step = self.step
        self.units.begin(self.step)
        self.tape.__enter__()

    def _close_tape(self, complete: bool) -> None:
        tape, self.tape = self.tape, None
        if tape is None:
            return
        tape.__exit__(None, None, None)
        if tape.keep_ops:
            self.stream.emit(
                "tape",
                step=self._tape_step,
                ops=tape.ops,
                loss=self.tape_loss,
                truncated=tape.truncated or not complete,
                origin=tape.origin,
            )

    # -- the rest -----------------------------------------------------------------------------------------------

    def _note_source(self, what: str) -> None:
        if self.sources.get(what) is None:
            self.sources[what] = self.frames.line()

    def _describe(self, watched: Watched) -> None:
        optimizer = watched.optimizer()
        if watched.described or optimizer is None:
            return
        watched.described = True
        tensors = optimizers.parameters_of(optimizer)
        self.parameters.note_held(tensors, watched.index)
        self.stream.emit(
            "optimizer",
            index=watched.index,
            kind=watched.kind,
            parameters=[self.parameters.name(tensor) for tensor in tensors],
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
            "step_source": watched.step_source,
            "zero_grad_source": watched.zero_grad_source,
            "backward_source": watched.backward_source,
            "steps": watched.steps,
            "zero_grads": watched.zero_grads,
        }

    def crash(self, failure: BaseException) -> dict[str, Any]:
        """What is known of the exception that ended the program."""
        lines = self.frames.traceback(failure.__traceback__)
        known = self.failed if self.failed and self.failed["exception"]() is failure else {}
        return {
            "type": type(failure).__name__,
            "message": str(failure)[:2000],
            "frames": lines[-12:],
            **{key: value for key, value in known.items() if key != "exception"},
        }


class _Quiet:
    """Our own arithmetic does not belong on the tape."""

    def __init__(self, tape: TapeMode | None) -> None:
        self._tape = tape

    def __enter__(self) -> None:
        if self._tape is not None:
            self._tape.quiet = True

    def __exit__(self, *_: object) -> None:
        if self._tape is not None:
            self._tape.quiet = False


def _weakly(failure: BaseException) -> bool:
    try:
        weakref.ref(failure)
    except TypeError:
        return False
    return True


def _value(losses: list[torch.Tensor]) -> float | None:
    try:
        return sum(float(loss.detach().float().mean()) for loss in losses)
    except (RuntimeError, TypeError):
        return None


def _rate(optimizer: torch.optim.Optimizer) -> float:
    rate = optimizer.param_groups[0].get("lr", math.nan) if optimizer.param_groups else math.nan
    return float(rate)


def python_version() -> str:
    """For the recording's head."""
    return sys.version.split()[0]
