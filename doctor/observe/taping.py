"""When the op tape runs: at the steps that the plan samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode, _pop_mode, _push_mode

from doctor.observe.tape import TapeMode

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder


class Taping:
    """At most one running tape; `mode` is it, and `loss` the tensor on which its backward was called."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.mode: TapeMode | None = None
        self.loss: int | None = None
        self._step = 0
        self._entered = False

    def open(self) -> None:
        """Begin to tape when the plan samples this step."""
        recorder, plan = self._recorder, self._recorder.plan
        if plan.light or self.mode is not None or recorder.compiled:
            return
        step = recorder.step
        hunting = step == plan.hunt_step
        keep = hunting or step in plan.tape_steps
        if not keep and step not in plan.activation_steps:
            return
        self.mode = TapeMode(recorder.context, recorder.parameters.name, values=hunting)
        self.mode.keep_ops = keep
        self.mode.on_activation = recorder.units.note
        self.mode.listeners = recorder.on_operation
        self.loss = None
        self._step = step
        recorder.units.begin(step)
        self.mode.__enter__()
        self._entered = True

    def close(self, complete: bool) -> None:
        """Write what was taped; `complete` when the optimizer has stepped."""
        tape, self.mode = self.mode, None
        if tape is None:
            return
        self._leave(tape, at_the_end=True)
        if tape.keep_ops:
            self._recorder.stream.emit(
                "tape",
                step=self._step,
                ops=tape.ops,
                loss=self.loss,
                truncated=tape.truncated or not complete,
                origin=tape.origin,
            )

    def begin_backward(self, loss: torch.Tensor) -> None:
        """The forward part ends with this loss."""
        if self.mode is not None:
            self.loss = self.mode.tensor_id(loss)
            if self.mode.phase == "forward":
                self.mode.begin_backward()
                self._leave(self.mode)

    def _leave(self, tape: TapeMode, at_the_end: bool = False) -> None:
        """Of the backward part only values are looked at, when they are hunted; else it runs without the tape."""
        if self._entered and (at_the_end or not tape.values):
            self._entered = False
            tape.__exit__(None, None, None)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Our own arithmetic does not belong on the tape."""
        mode = self.mode
        if mode is None or mode.quiet:
            yield
            return
        mode.quiet = True
        # Off the stack it costs nothing; a mode of the user's on top of it stays where it is.
        lifted = self._entered and _get_current_dispatch_mode() is mode
        if lifted:
            _pop_mode()
        try:
            yield
        finally:
            if lifted:
                _push_mode(mode)
            mode.quiet = False
