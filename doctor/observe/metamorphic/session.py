"""What every experiment works with: the call, its first outputs, the time that is left, and how places are named."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from doctor.observe.frames import Line
from doctor.observe.metamorphic.call import Call, Changes, Outputs
from doctor.observe.metamorphic.layout import NextStep, Padding, Samples
from doctor.observe.metamorphic.trace import Blame, Trace, Traced
from doctor.observe.naming import settings
from doctor.observe.recorder import Recorder

_ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer)
_AXIS_ORDER = (*_ATTENTION, nn.TransformerEncoder, nn.RNNBase)


class OutOfTimeError(Exception):
    """The experiments have had their share of time."""


@dataclass
class Session:
    """One captured call under experiment. `trace` tells the operations of an unchanged call, without tensors."""

    recorder: Recorder
    call: Call
    outputs: Outputs
    seconds: float  # one forward
    deadline: float
    targets: list[torch.Tensor]
    trace: Trace
    samples: Samples | None = None
    next_step: list[NextStep] = field(default_factory=list)
    padding: Padding | None = None

    def run(self, changes: Changes | None = None, **options: Any) -> Outputs:
        """One more forward, if there is time for it."""
        if time.monotonic() + self.seconds > self.deadline:
            raise OutOfTimeError
        return self.call.run(changes, **options)

    def traced(self, changes: Changes | None = None) -> Trace:
        """One more forward, with all its tensors."""
        trace = Trace(self.recorder.frames)
        self.run(changes, watching=trace)
        return trace

    def attends(self, length: int) -> list[Traced]:
        """Softmaxes over as many places as the input has positions: attention over time."""
        return [
            op
            for op in self.trace.ops
            if op.name.endswith("_softmax") and op.name != "_log_softmax" and op.shapes
            and len(op.shapes[0]) >= 3 and op.shapes[0][-1] in (length, length + 1) and op.shapes[0][-2] > 1
        ]  # fmt: skip

    def place(self, op: Traced) -> dict[str, Any]:
        """An operation as an event tells it: its line, its module, and where that module was made."""
        found: dict[str, Any] = {"operation": op.name, "line": op.line, "module": "", "module_kind": ""}
        if op.modules:
            inner = op.modules[-1]
            found |= {"module": self.recorder.naming.place(inner)[1], "module_kind": type(inner).__name__}
        found["layer"] = self._layer(op)
        return found

    def _layer(self, op: Traced) -> dict[str, Any] | None:
        """The outermost library layer around it whose axes or direction matter."""
        kinds = (*_AXIS_ORDER, nn.modules.conv._ConvNd)
        part = next((module for module in op.modules if isinstance(module, kinds)), None)
        if part is None:
            return None
        known = settings(part)
        first = part
        if isinstance(part, nn.TransformerEncoder | nn.TransformerDecoder):
            first = part.layers[0]
        if isinstance(first, _ATTENTION):
            inner = next((m for m in first.modules() if isinstance(m, nn.MultiheadAttention)), None)
            known["batch_first"] = bool(inner is not None and inner.batch_first)
        place = self.recorder.naming.created_line(part)
        return {
            "kind": type(part).__name__,
            "path": self.recorder.naming.place(part)[1],
            "line": place,
            "batch_first": bool(known.get("batch_first", False)),
            "bidirectional": bool(known.get("bidirectional", False)),
            "transformer": isinstance(part, nn.TransformerEncoder | nn.TransformerDecoder | nn.Transformer),
            "ordered": isinstance(part, _AXIS_ORDER),
        }

    def blamed(self, found: Blame | None) -> dict[str, Any] | None:
        """A blamed operation as an event tells it."""
        return None if found is None else self.place(found.op)

    def forward_line(self) -> Line | None:
        """Where the user's `forward` of the called module begins."""
        code = getattr(type(self.call.module).forward, "__code__", None)
        name = self.recorder.frames.name(code.co_filename) if code is not None else None
        return [name, code.co_firstlineno, "forward"] if name is not None and code is not None else None


def replaced(value: torch.Tensor, axis: int, where: slice, by: torch.Tensor) -> torch.Tensor:
    """A copy with one part along an axis replaced."""
    changed = value.clone()
    changed[(slice(None),) * axis + (where,)] = by
    return changed


def spread(tensor: torch.Tensor) -> float:
    """Standard deviation over all elements, 0 where there is one only."""
    return float(tensor.double().std()) if tensor.numel() > 1 else 0.0
