"""The recorder: installs the hooks around a running program and turns what they see into events.

Only reading, under no_grad, and never a random number: an observed program computes what it computes unobserved.
Leans on these internals of PyTorch (seen in 2.4 to 2.13): `Tensor.backward` looks `torch.autograd.backward` up when it
is called; `nn.Module.__call__` is an ordinary attribute; global optimizer hooks run inside every `step`.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from doctor.observe import graph, watch
from doctor.observe.batches import BatchWatch
from doctor.observe.capture import Captures
from doctor.observe.frames import Line, UserFrames
from doctor.observe.loaders import LoaderWatch
from doctor.observe.naming import Naming
from doctor.observe.parameters import ParameterWatch
from doctor.observe.patches import Patches
from doctor.observe.plan import Plan
from doctor.observe.stepping import StepWatch
from doctor.observe.stream import Stream
from doctor.observe.taping import Taping
from doctor.observe.units import UnitWatch

_LEAST_BACKWARDS = 400  # also where few steps are asked for: each may accumulate over many backwards
_MOST_SECONDS_MORE = 4.0  # for the evaluation behind a loop that no DataLoader feeds


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
        self.stepping = StepWatch(self)
        self.taping = Taping(self)
        self.captures = Captures(self)
        self.stack: list[nn.Module] = []
        self.step = 0
        self.backwards = 0
        self.forwards = 0
        self.manual_updates = 0
        self.sources: dict[str, Line | None] = {}
        self.failed: dict[str, Any] | None = None
        self.stopping = False
        self.budget_reached = False
        self._goes_on_until: float | None = None
        self.compiled = False
        self.notes: list[str] = []
        self.before_entry: list[Callable[[nn.Module, Any, Any], None]] = []
        self.before_backward: list[Callable[[list[torch.Tensor]], None]] = []
        self.after_backward: list[Callable[[list[torch.Tensor]], None]] = []
        self.before_step: list[Callable[[torch.optim.Optimizer], None]] = []
        self.after_step: list[Callable[[torch.optim.Optimizer], None]] = []
        self.after_entry: list[Callable[[nn.Module, Any, Any, Any], None]] = []
        # what was walked of a sampled backward, before it runs: losses, walk, whether gradients get gradients
        self.on_walk: list[Callable[[list[torch.Tensor], graph.Walk, bool], None]] = []
        # operations of the tape with their tensors: name, context, inputs, outputs
        self.on_operation: dict[str, list[Callable[[str, dict[str, Any], Any, Any], None]]] = {}
        self._in_backward = 0
        self.busy = False
        self._started = time.monotonic()
        self._first_step_at: float | None = None
        self._versions: dict[int, int] = {}
        self._leaves: list[torch.Tensor] = []
        self.watched: dict[str, list[Callable[..., None]]] = {moment: [] for moment in watch.MOMENTS}
        self.watches = [] if plan.light else watch.all_for(self)

    # -- life ---------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put all hooks in place."""
        wrap = self.patches.wrap
        wrap(nn.Module, "__init__", self._module_created)
        self.patches.set(nn.Module, "__call__", self._module_call(nn.Module.__dict__["__call__"]))
        wrap(torch.autograd, "backward", self._backward)
        wrap(torch, "compile", self._compiled)
        self.stepping.install()
        self.batches.install()
        self.parameters.install()
        self.loaders.install()
        for watched in self.watches:
            watched.start()
        self.stream.emit("start", target=self.plan.target, budget=self.plan.steps, torch=torch.__version__)

    def finish(self, outcome: str, **fields: Any) -> None:
        """Take the hooks away and write what was gathered over the whole run."""
        self.taping.close(complete=False)
        self.stepping.remove()
        self.patches.undo()
        self.busy = True
        for watched in self.watches:
            watched.end()
        with torch.no_grad():
            self.stepping.report()
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
            zero_grads=self.stepping.zero_grads,
            clips=self.stepping.clips,
            manual_updates=self.manual_updates,
            schedulers=self.stepping.schedulers,
            sources=self.sources,
            compiled=self.compiled,
            notes=self.notes,
            seconds=self.elapsed(),
            **fields,
        )
        self.stream.close()

    def elapsed(self) -> float:
        """Seconds since the program began."""
        return time.monotonic() - self._started

    def stepping_for(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self._first_step_at if self._first_step_at is not None else 0.0

    # -- moments ------------------------------------------------------------------------------------------------

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Our own work: without gradients, off the tape, and its module calls are not recorded."""
        busy, self.busy = self.busy, True
        try:
            with torch.no_grad(), self.taping.quiet():
                yield
        finally:
            self.busy = busy

    def moment(self, name: str, *args: Any) -> None:
        """Something happens in the program: tell the watches, then the interventions of a trial."""
        if self.watched[name]:
            with self.aside():
                for watched in self.watched[name]:
                    watched(*args)
        for intervention in getattr(self, name):
            intervention(*args)

    # -- modules ------------------------------------------------------------------------------------------------

    def _module_created(self, original: Any, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        line = self.frames.line_outside(module)
        if isinstance(module, nn.TransformerEncoder | nn.TransformerDecoder) and args:
            line = self.naming.created_line(args[0]) or line  # its settings are those of the layer that it copies
        self.naming.add(module, line, self.frames.line_of_constructor(line))
        original(module, *args, **kwargs)

    def _module_call(self, original: Any) -> Any:
        is_compiling, stack, light = torch.compiler.is_compiling, self.stack, self.plan.light

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            # A compiler that traces the user's code must see the plain call, not the recorder.
            if is_compiling() or self.busy:
                return original(module, *args, **kwargs)
            entered = False
            if not stack:
                entered = self._entering(module, args, kwargs)
            elif not light:
                self.batches.note_inner(module, stack)
            stack.append(module)
            try:
                result = original(module, *args, **kwargs)
            except Exception as failure:
                self._note_failure(failure, module, args, kwargs)
                raise
            finally:
                stack.pop()
            if entered:
                self.batches.after_entry(module, result)
                self.moment("after_entry", module, args, kwargs, result)
            return result

        return call

    def _entering(self, module: nn.Module, args: Any, kwargs: Any) -> bool:
        if isinstance(module, nn.modules.loss._Loss) or next(module.parameters(), None) is None:
            return False
        self.forwards += 1
        if torch.is_grad_enabled():
            if self.step == 0 and self.taping.mode is None:
                self.taping.open()
            self.note_source("forward")
        self.batches.before_entry(module, args, kwargs)
        self.captures.before_entry(module, args, kwargs)
        self.moment("before_entry", module, args, kwargs)
        return True

    def _compiled(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self.compiled = True
        return original(*args, **kwargs)

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
        self.note_source("backward")
        if self._in_backward:
            return original(tensors, *args, **kwargs)
        line = self.frames.line()
        self.backwards += 1
        self.stepping.describe()
        self._note_manual_updates()
        sampled = not self.plan.light and (self.backwards <= 3 or self.step in self.plan.activation_steps)
        with torch.no_grad(), self.taping.quiet():
            value = _value(losses)
            self.stepping.note_before_backward()
        self.moment("before_backward", losses)
        if sampled:
            retain = bool(kwargs.get("retain_graph") or kwargs.get("create_graph"))
            with self.taping.quiet():
                self._walk(losses, line, value, retain, bool(kwargs.get("create_graph")))
        else:
            self.batches.forget_entries()
        self.loaders.note_backward()
        self.taping.begin_backward(losses[0])
        self.stepping.note_backward(value, line)
        self.stream.emit("backward", step=self.step, loss=value, line=line)
        self._in_backward += 1
        try:
            result = original(tensors, *args, **kwargs)
        finally:
            self._in_backward -= 1
        self.moment("after_backward", losses)
        if not self.stepping.live():
            self._end_of_step_without_optimizer()
        return result

    def _walk(
        self, losses: list[torch.Tensor], line: Line | None, value: float | None, retain: bool, again: bool
    ) -> None:
        walk = graph.walk(losses)
        self._note_leaves(walk.leaves)
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
            size=len(walk.names),
            retain=retain,
        )
        for callback in self.on_walk:
            callback(losses, walk, again)

    def _note_manual_updates(self) -> None:
        if self.stepping.live():
            return
        held = (p for _, module in self.naming.live_roots() for p in module.parameters())
        for tensor in (*held, *self._leaves):
            known = self._versions.get(id(tensor))
            if known is not None and known != tensor._version:
                self.manual_updates += 1
                self._versions.clear()
                return
            self._versions[id(tensor)] = tensor._version

    def _note_leaves(self, leaves: list[torch.Tensor]) -> None:
        """Plain tensors that are trained by hand: changed in place, or replaced by new ones at every step."""
        if self.stepping.live():
            return
        before, self._leaves = self._leaves, [leaf for leaf in leaves if leaf.requires_grad][:64]
        shapes = [tensor.shape for tensor in self._leaves]
        if before and [tensor.shape for tensor in before] == shapes:
            self.manual_updates += not {id(tensor) for tensor in before} & {id(tensor) for tensor in self._leaves}

    def _end_of_step_without_optimizer(self) -> None:
        self.taping.close(complete=True)
        self._first_step_at = self._first_step_at or time.monotonic()
        if self.backwards >= self.plan.steps or self._out_of_time(self.backwards):
            self.stop()
        if self.backwards in self.plan.tape_steps:
            self.taping.open()

    def end_step(self) -> None:
        """An optimizer has stepped: count it, and decide whether enough was seen."""
        self.taping.close(complete=True)
        self.step += 1
        self._first_step_at = self._first_step_at or time.monotonic()
        if (
            self.step >= self.plan.steps
            or self.backwards >= max(_LEAST_BACKWARDS, 5 * self.plan.steps)
            or self._out_of_time(self.step)
        ):
            if not self._goes_on():
                self._reach_budget()
        elif (
            self.step in self.plan.tape_steps
            or self.step in self.plan.activation_steps
            or self.step == self.plan.hunt_step
        ):
            self.taping.open()

    def _goes_on(self) -> bool:
        """Whether a loop of the program's own may come to its evaluation yet: a few steps more, in a part of the time."""
        if self.plan.light or self.batches.evaluation_seen() or self.loaders.can_end_epoch():
            return False
        now, first = time.monotonic(), self._first_step_at or 0.0
        if self._goes_on_until is None:
            self._goes_on_until = now + min(_MOST_SECONDS_MORE, max(1.0, 0.4 * (now - first)))
        return now < self._goes_on_until and self.step < 2 * self.plan.steps and not self._out_of_time(self.step)

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

    # -- the rest -----------------------------------------------------------------------------------------------

    def note_source(self, what: str) -> None:
        """Remember the user's line of the first forward, backward, step."""
        if self.sources.get(what) is None:
            self.sources[what] = self.frames.line()

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
