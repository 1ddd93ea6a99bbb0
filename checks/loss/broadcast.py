"""Losses over every prediction against every target."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from math import prod

from doctor.evidence.base import Source
from doctor.evidence.loss_calls import LossCalls
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import AlignTarget, Place

_ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_TO_LOSS = frozenset(
    {
        "pow",
        "abs",
        "mul",
        "square",
        "mean",
        "sum",
        "neg",
        "sqrt",
        "add",
        "div",
        "sub",
        "log",
        "exp",
        "clamp",
        "huber_loss",
    }
)


class BroadcastLimits(Limits):
    """Thresholds of LOS004."""

    min_batch: int = 2
    square: int = 6  # predictions (N, N) of targets (N,)


@check("LOS004", "broadcast-loss", Severity.ERROR, faq="training/loss/incorrect")
def broadcast_loss(calls: LossCalls | None, tape: OpTape | None, limits: BroadcastLimits) -> Iterator[Finding]:
    """Prediction and target have shapes (N, 1) and (N,), so the loss compares every pair.

    ## What it measures
    The shapes with which elementwise losses are called, and on the taped step every difference on the way to the loss:
    (N, 1) against (N,) gives (N, N), and (N, H, W) against (N, 1, H, W) gives (N, N, H, W).
    ## Why it hurts
    Each prediction is drawn towards all targets at once: the model learns the mean of the targets, and nothing crashes.
    ## Example
    ```python
    prediction = model(x)
    loss = F.mse_loss(prediction, y)
    ```
    ## Use instead
    ```python
    prediction = model(x).squeeze(1)
    loss = F.mse_loss(prediction, y)
    ```
    ## When it is right
    Pairwise losses are written with two inserted axes, (N, 1) against (1, N), and are silent.
    ## References
    PyTorch warns "Using a target size that is different to the input size" for functional losses only.
    """
    for call in calls.places if calls else ():
        shapes = (call.input_shape, call.target_shape)
        if not call.in_training or call.function not in _ELEMENTWISE:
            continue
        if _squared(*shapes, limits.square):
            made = _made_square(tape, call.input_shape)
            yield _finding(made or call.source, *shapes, call.function)
            return
        if _crossed(*shapes, limits.min_batch) or _outgrown(*shapes, limits.min_batch):
            yield _finding(call.source, *shapes, call.function)
            return
    if tape is None:
        return
    for op in tape.first.named("sub", "rsub", "mul"):
        if len(op.inputs) < 2:
            continue
        one, other = op.inputs[0].shape, op.inputs[1].shape
        compared = op.name != "mul" and any(
            note.requires_grad is False and not note.parameter for note in op.inputs[:2]
        )
        found = _crossed(one, other, limits.min_batch) or (compared and _outgrown(one, other, limits.min_batch))
        if found and _flows_to_loss(tape.first, op):
            yield _finding(op.source, one, other, op.name)
            return


def _crossed(one: tuple[int, ...], other: tuple[int, ...], least: int) -> bool:
    long, short = (one, other) if len(one) > len(other) else (other, one)
    return len(long) == 2 and len(short) == 1 and long[1] == 1 and long[0] == short[0] >= least


def _squared(prediction: tuple[int, ...], target: tuple[int, ...], least: int) -> bool:
    return len(prediction) == 2 and prediction[0] == prediction[1] >= least and target == prediction[:1]


def _made_square(tape: OpTape | None, shape: tuple[int, ...]) -> Source | None:
    """Where (N, 1) and (N,) first met within the model."""
    ops = tape.first.named("add", "sub", "mul") if tape is not None else ()
    for op in ops:
        if len(op.inputs) < 2 or not op.outputs or op.outputs[0].shape != shape:
            continue
        if _crossed(op.inputs[0].shape, op.inputs[1].shape, 2):
            return op.source
    return None


def _outgrown(one: tuple[int, ...], other: tuple[int, ...], least: int) -> bool:
    """Whether the two hold as many elements, lack an axis of length 1, and give more elements than either has."""
    if len(one) == len(other) or prod(one) != prod(other):
        return False
    pairs = zip_longest(reversed(one), reversed(other), fillvalue=1)
    joined = [max(a, b) if 1 in (a, b) or a == b else 0 for a, b in pairs]
    return prod(joined) >= least * prod(one)


def _flows_to_loss(tape: Tape, op: Op) -> bool:
    """Whether the pairs reach the loss through arithmetic and reductions alone."""
    queue, seen = [note.id for note in op.outputs], set[int]()
    while queue:
        tensor = queue.pop()
        if tensor == tape.loss:
            return True
        for consumer in tape.consumers(tensor):
            if consumer.index not in seen and consumer.name in _TO_LOSS:
                seen.add(consumer.index)
                queue.extend(note.id for note in consumer.outputs)
    return False


def _finding(source: Source | None, one: tuple[int, ...], other: tuple[int, ...], what: str) -> Finding:
    count = next((length for length in (one[0], other[0]) if length > 1), 1)
    return Finding(
        message=f"{what} of shapes {one} and {other} is computed over {count} x {count} pairs",
        location=Location(path=source.path, line=source.line) if source else Location(),
        demonstrated=f"the loss holds {count} x {count} elements",
        measured={"elements": Measure(value=count * count, threshold=count)},
        remedy="give both the same shape: prediction.squeeze(1), or target.unsqueeze(1)",
        treatment=AlignTarget(place=Place(path=source.path, line=source.line) if source else Place()),
    )
