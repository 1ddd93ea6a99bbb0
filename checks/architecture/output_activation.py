"""Outputs that cannot take the values of the targets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.call_log import CallLog
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import BypassActivation, Place

_COMPARED = ("mse_loss", "smooth_l1_loss", "huber_loss", "sub", "rsub")
_TO_LOSS = frozenset({"pow", "abs", "mul", "square", "mean", "sum", "sqrt", "add", "div", "log", "clamp", "huber_loss"})
_THROUGH = frozenset(
    {
        "view", "_unsafe_view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "slice", "select", "clone",
        "_to_copy", "expand", "alias", "detach", "_reshape_alias", "native_dropout", "index", "index_select", "masked_select",
    }
)  # fmt: skip
_BOUNDS = {"relu": (0.0, math.inf), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "_softmax": (0.0, 1.0),
           "softplus": (0.0, math.inf), "hardsigmoid": (0.0, 1.0), "elu": (-1.0, math.inf)}  # fmt: skip
_ON_LOGITS = ("relu", "hardtanh", "clamp_min", "tanh", "softplus", "hardsigmoid")
_WORDS = {"_softmax": "softmax", "clamp_min": "clamp"}


class OutputActivationLimits(Limits):
    """Thresholds of ARC006."""

    out_of_reach: float = 0.1  # of the targets' range that the output cannot take; less may be a few outliers
    share_outside: float = 0.03  # of the targets, were they normally distributed


@check("ARC006", "wrong-output-activation", Severity.ERROR, faq="training/architecture/incorrect")
def wrong_output_activation(
    tape: OpTape,
    batches: BatchLog | None,
    tree: ModuleTree | None,
    calls: CallLog | None,
    limits: OutputActivationLimits,
) -> Iterator[Finding]:
    """The last operation before the loss bounds the output, and what is wanted lies outside.

    ## What it measures
    On the taped step, the operation that made the prediction of a squared, absolute or Huber error (also a hand-written
    difference), held against the range of the targets; and a relu, tanh, clamp or softplus directly in front of
    cross-entropy, of binary cross-entropy with logits, or of the sigmoid of binary cross-entropy. A softmax over a
    single output is constant. The trial leaves the function out.
    ## Why it hurts
    Targets out of reach are never met; where a relu is zero or a sigmoid at its bound, no gradient comes back.
    ## Example
    ```python
    prediction = torch.relu(self.out(h))
    loss = F.mse_loss(prediction, standardised_target)
    ```
    ## Use instead
    ```python
    prediction = self.out(h)
    loss = F.mse_loss(prediction, standardised_target)
    ```
    ## When it is right
    A relu or softplus where targets are never negative, a sigmoid for targets between 0 and 1, a tanh for images between
    -1 and 1. Scaled bounds (`30 * tanh(x / 30)`) and functions that a pooling follows are left alone.
    ## References
    Goodfellow et al., "Deep Learning" (2016), section 6.2.2 on output units.
    """
    first = tape.first
    for found in (*_regression(first, batches, limits), *_classification(first)):
        op, what, harm, severity = found
        if calls is not None and calls.in_library(op.module, op.root):
            continue
        yield unreachable_output(op, what, harm, severity, tree)
        return


_Found = tuple[Op, str, str, Severity]


def _regression(tape: Tape, batches: BatchLog | None, limits: OutputActivationLimits) -> Iterator[_Found]:
    for op in tape.named(*_COMPARED):
        if len(op.inputs) < 2 or not op.grad_enabled:
            continue
        one, other = op.inputs[:2]
        prediction, target = (one, other) if one.requires_grad else (other, one)
        if not prediction.requires_grad or target.requires_grad or not target.floating or prediction.parameter:
            continue
        above = last_function(tape, prediction)
        bounds = bounds_of(above) if above is not None else None
        if above is None or bounds is None or not _flows_to_loss(tape, op):
            continue
        low, high = bounds
        least, most, share = _targets(op, target, batches, low, high)
        if least is None or most is None or most <= least:
            continue
        outside = max(low - least, most - high) / (most - least)
        if outside < limits.out_of_reach or share < limits.share_outside:
            continue
        name = _WORDS.get(above.name, above.name)
        what = f"the output of {name} lies in [{low:g}, {high:g}], the targets in [{least:.4g}, {most:.4g}]"
        yield above, what, f"{outside:.0%} of the targets' range is out of reach", Severity.ERROR


def bounds_of(op: Op) -> tuple[float, float] | None:
    """The least and the largest value that an operation can give; None for one without bounds."""
    if op.name == "hardtanh":
        low, high = op.arguments.get("min_val", -1.0), op.arguments.get("max_val", 1.0)
        return (
            (float(low), float(high)) if isinstance(low, int | float) and isinstance(high, int | float) else (-1.0, 1.0)
        )
    if op.name == "clamp_min":
        low = op.arguments.get("min", 0.0)
        return (float(low) if isinstance(low, int | float) else 0.0), math.inf
    return _BOUNDS.get(op.name)


def _targets(
    op: Op, note: TensorNote, batches: BatchLog | None, low: float, high: float
) -> tuple[float | None, float | None, float]:
    """Least and largest target, and the share of them that a normal distribution would have outside the bounds."""
    for stats in batches.targets if batches else ():
        if stats.source == op.source and stats.minimum is not None and stats.maximum is not None:
            share = 1.0
            if stats.mean is not None and stats.std:
                share = _below((low - stats.mean) / stats.std) + 1 - _below((high - stats.mean) / stats.std)
            return stats.minimum, stats.maximum, share
    return note.minimum, note.maximum, 1.0


def _below(deviations: float) -> float:
    return 0.5 * (1 + math.erf(deviations / math.sqrt(2))) if math.isfinite(deviations) else float(deviations > 0)


def _classification(tape: Tape) -> Iterator[_Found]:
    for op in tape.named("_log_softmax", "binary_cross_entropy_with_logits", "binary_cross_entropy"):
        if not op.inputs or not op.inputs[0].requires_grad or not op.grad_enabled:
            continue
        logits = op.inputs[0]
        loss = {"_log_softmax": "cross-entropy", "binary_cross_entropy": "binary cross-entropy"}.get(
            op.name, "binary cross-entropy with logits"
        )
        if op.name == "_log_softmax" and not _picks_classes(tape, op):
            continue
        if op.name == "binary_cross_entropy":
            squashed = last_function(tape, logits)
            if squashed is not None and (cut := _cut_to_probabilities(tape, squashed)):
                harm = "nothing outside comes back, and probabilities at the bounds cost without limit"
                yield (
                    squashed,
                    f"{cut} makes the probabilities of {loss} out of unbounded numbers",
                    harm,
                    Severity.ERROR,
                )
                continue
            if squashed is None or squashed.name not in ("sigmoid", "_softmax"):
                continue
            if squashed.name == "_softmax":
                if _constant(squashed):
                    yield (
                        squashed,
                        "softmax over a single output",
                        "a softmax over one value is always 1",
                        Severity.ERROR,
                    )
                continue
            logits = squashed.inputs[0]
        above = last_function(tape, logits)
        if above is not None and above.name in _ON_LOGITS and above.grad_enabled:
            name = _WORDS.get(above.name, above.name)
            low, high = bounds_of(above) or (0.0, math.inf)
            harm = "no class can be ruled out by a negative logit"
            severity = Severity.WARNING
            if op.name != "_log_softmax":
                harm = "no probability below 0.5 is possible" if low == 0 else "probabilities stay near 0.5"
                severity = Severity.ERROR
            yield above, f"{name} keeps the logits of {loss} in [{low:g}, {high:g}]", harm, severity
    for op in tape.named("_softmax"):
        single = _constant(op) and op.grad_enabled and op.inputs[0].requires_grad and len(op.inputs[0].shape) == 2
        if single and op.inputs[0].shape[0] > 1 and _ends(tape, op):
            yield op, "softmax over a single output", "a softmax over one value is always 1", Severity.ERROR


def _cut_to_probabilities(tape: Tape, op: Op) -> str | None:
    """The function that cuts the result of a map to what may be a probability, where no sigmoid stands before it."""
    name, above = _WORDS.get(op.name, op.name), op
    while above.name in ("clamp", "clamp_min", "clamp_max", "hardtanh", "relu"):
        if not above.inputs or (before := last_function(tape, above.inputs[0])) is None:
            return None
        above = before
    return name if above is not op and above.name in ("addmm", "mm", "bmm", "convolution", "add", "sum") else None


def _constant(op: Op) -> bool:
    shape, dim = op.inputs[0].shape, op.arguments.get("dim", -1)
    return bool(shape) and isinstance(dim, int) and shape[dim] == 1


def _ends(tape: Tape, op: Op) -> bool:
    """Whether what it gives is compared with the targets."""
    queue = [note.id for note in op.outputs]
    for _ in range(6):
        consumers = [consumer for tensor in queue for consumer in tape.consumers(tensor)]
        if any(c.name in (*_COMPARED, "binary_cross_entropy", "_log_softmax", "nll_loss_forward") for c in consumers):
            return True
        queue = [n.id for c in consumers if c.name in _THROUGH | {"log", "expand"} for n in c.outputs]
    return False


def _picks_classes(tape: Tape, op: Op) -> bool:
    shape, dim = op.inputs[0].shape, op.arguments.get("dim", -1)
    if not shape or not isinstance(dim, int) or shape[dim] < 2:
        return False
    names = {consumer.name for note in op.outputs for consumer in tape.consumers(note.id)}
    return bool(names & {"nll_loss_forward", "nll_loss2d_forward"})


def last_function(tape: Tape, note: TensorNote) -> Op | None:
    """The operation that made a tensor, views and copies left out."""
    for _ in range(10):
        op = tape.producer(note.id)
        if op is None or not op.inputs:
            return None
        if op.name not in _THROUGH:
            return op
        note = op.inputs[0]
    return None


def _flows_to_loss(tape: Tape, op: Op) -> bool:
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


def unreachable_output(op: Op, what: str, harm: str, severity: Severity, tree: ModuleTree | None) -> Finding:
    """The finding on an operation whose bounds are in the way."""
    name = _WORDS.get(op.name, op.name)
    called = op.source
    record = tree.module(op.module, op.root or 0) if tree is not None and op.module else None
    own = record is not None and record.builtin and record.parameters == 0 and not (tree and tree.children(op.module))
    parent = tree.module(op.module.rpartition(".")[0], op.root or 0) if tree is not None and own else None
    listed = parent is not None and parent.kind == "Sequential"
    place: Source | None = record.created if listed and record is not None and record.created else called
    related: tuple[Related, ...] = ()
    if called is not None and place != called:
        related = (Related(location=Location(path=called.path, line=called.line), message="it is called here"),)
    return Finding(
        message=f"{what}: {harm}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=op.module or None
        ),
        severity=severity,
        measured={"bounded_outputs": Measure(value=1, threshold=0)},
        remedy=f"leave {name} out after the last layer",
        treatment=BypassActivation(
            function=name,
            place=Place(path=called.path, line=called.line) if called else Place(),
            module=op.module if listed else "",
        ),
        related=related,
        demonstrated=harm,
    )
