"""Bidirectional recurrent layers read at their last step."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.call_log import CallLog
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

_THROUGH = ("transpose", "clone", "alias", "detach", "native_dropout", "mul", "slice")


class LastStepLimits(Limits):
    """Thresholds of ARC021."""

    min_length: int = 3  # steps of the sequence; with two the backward direction has seen half of it


@check(
    "ARC021",
    "backward-direction-at-last-step",
    Severity.WARNING,
    faq="training/architecture/incorrect",
    faults=("wrong-dim", "backward-direction-at-last-step"),
)
def backward_direction_at_last_step(
    tape: OpTape, tree: ModuleTree, calls: CallLog | None, limits: LastStepLimits
) -> Iterator[Finding]:
    """The output of a bidirectional recurrent layer is read at the last step only.

    ## What it measures
    On the taped step, a selection of the last index on the time axis of what a layer with `bidirectional=True` gave,
    where nothing else reads that output.
    ## Why it hurts
    At the last step the backward direction has read one element: half of the features know nothing of the sequence.
    ## Example
    ```python
    out, (h, c) = self.lstm(x)
    features = out[:, -1]
    ```
    ## Use instead
    ```python
    out, (h, c) = self.lstm(x)
    features = torch.cat([h[-2], h[-1]], dim=1)
    ```
    ## When it is right
    Where only the forward half is used afterwards, or the whole output is read as well (pooling, attention).
    ## References
    `torch.nn.LSTM`: the output at the last step holds the first step of the backward direction.
    """
    first = tape.first
    for op in first.named("select", "slice"):
        if not op.inputs or op.source is None or not op.inputs[0].requires_grad or len(op.inputs[0].shape) != 3:
            continue
        made = _maker(first, op)
        record = tree.module(made.module, made.root or 0) if made is not None else None
        if record is None or not record.settings.get("bidirectional") or op.module == record.path:
            continue
        shape = op.inputs[0].shape
        axis = 1 if record.settings.get("batch_first") else 0
        if not _takes_last(op, axis, limits.min_length) or (calls and calls.in_library(op.module, op.root)):
            continue
        width = record.settings.get("hidden_size")
        if shape[-1] != 2 * int(width or 0) or _readers(first, op) > 1 or _halved(first, op):
            continue
        yield Finding(
            message=f"the output of bidirectional {record.kind} {record.path} is read at the last of {shape[axis]} steps, "
            "where its backward direction has seen one",
            location=Location(path=op.source.path, line=op.source.line, module=record.path),
            measured={"steps_seen_backwards": Measure(value=1, threshold=shape[axis])},
            remedy="torch.cat([h[-2], h[-1]], dim=1) of the final hidden states, or a mean over time",
            demonstrated="the backward half is read at its first step",
        )
        return


def _takes_last(op: Op, axis: int, least: int) -> bool:
    length, dim = op.inputs[0].shape[axis], op.arguments.get("dim", 0)
    if not isinstance(dim, int) or dim % 3 != axis or length < least:
        return False
    if op.name == "select":
        return op.arguments.get("index") in (-1, length - 1)
    return op.arguments.get("start") in (-1, length - 1) and op.outputs[0].shape[axis] == 1


def _maker(tape: Tape, op: Op) -> Op | None:
    """The op of a recurrent layer that gave this tensor; only moves stand between."""
    note = op.inputs[0]
    for _ in range(5):
        producer = tape.producer(note.id)
        if producer is None:
            return None
        if producer.module_kind in ("LSTM", "GRU", "RNN"):
            return producer
        if producer.name not in _THROUGH or not producer.inputs:
            return None
        note = producer.inputs[0]
    return None


def _readers(tape: Tape, op: Op) -> int:
    """How many places read the tensor (several reads on one line are one place)."""
    return len({c.source for c in tape.consumers(op.inputs[0].id) if c.name != "detach"} | {op.source})


def _halved(tape: Tape, op: Op) -> bool:
    """Whether only a part of the features is read on."""
    consumers = tape.consumers(op.outputs[0].id)
    return bool(consumers) and all(c.name in ("slice", "split", "narrow", "view") for c in consumers)
