"""Softmax and its like over the wrong axis."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.axes import TensorAxes
from doctor.evidence.call_log import CallLog
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import Place
from doctor.trials.treatments.shapes import ChangeDim

_SOFTMAX = ("_softmax", "_log_softmax")
_MOVES = frozenset(
    {
        "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "squeeze", "unsqueeze", "clone", "_to_copy", "alias",
        "expand", "slice", "index", "masked_select", "detach", "log", "add", "clamp", "clamp_min",
    }
)  # fmt: skip
_SCORES = frozenset(
    {"view", "_unsafe_view", "div", "mul", "add", "masked_fill", "where", "sub", "clone", "transpose", "permute", "squeeze"}
)  # fmt: skip
_RECURRENT = ("LSTM", "GRU", "RNN")
_ATTENTION = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer", "TransformerEncoder")


class WrongDimLimits(Limits):
    """Thresholds of ARC011 and ARC022."""

    min_length: int = 2  # an axis of one sample mixes nothing


@check("ARC011", "wrong-dim", Severity.ERROR, faq="training/architecture/incorrect")
def wrong_dim(tape: OpTape, axes: TensorAxes, calls: CallLog | None, limits: WrongDimLimits) -> Iterator[Finding]:
    """A softmax or a normalisation runs over samples, time steps or queries instead of classes, features or keys.

    ## What it measures
    The axes of every tensor of the taped step are followed from where they came into being. Reported is: a softmax over
    the axis that counts the samples, in a tensor with no second such axis; a softmax whose axis is not the one from which
    `nll_loss` or `ctc_loss` picks the class; a vector norm or layer norm over samples; attention scores (a product of two
    computed tensors) whose weights sum to one over the queries while the values are summed over the keys; and a mean
    over the samples whose result goes through a further layer.
    ## Why it hurts
    What one sample gets depends on the others in its batch, or the scores of one position do not compete.
    ## Example
    ```python
    log_probabilities = F.log_softmax(logits, dim=0)
    loss = F.nll_loss(log_probabilities, labels)
    ```
    ## Use instead
    ```python
    log_probabilities = F.log_softmax(logits, dim=1)
    loss = F.nll_loss(log_probabilities, labels)
    ```
    ## When it is right
    Contrastive losses compare samples with samples: both axes count them. The instances of a bag, the nodes of a graph and
    the slots of slot attention are no samples with targets of their own. Statistics without gradients are left alone.
    ## References
    `torch.nn.functional.softmax`, argument `dim`.
    """
    first, told = tape.first, set[object]()
    for op in first.forward:
        found = None
        if op.grad_enabled and op.source is not None and op.source not in told:
            if calls is not None and calls.in_library(op.module, op.root):
                continue
            if op.name in _SOFTMAX:
                found = _softmax(first, axes, op, limits)
            elif op.name in ("linalg_vector_norm", "native_layer_norm", "mean"):
                found = _statistic(first, axes, op, limits)
        if found is not None:
            told.add(op.source)
            yield found


def _softmax(tape: Tape, axes: TensorAxes, op: Op, limits: WrongDimLimits) -> Finding | None:
    note, count = op.inputs[0], len(op.inputs[0].shape)
    if not count or not note.requires_grad:
        return None
    dim = op.arguments.get("dim")
    axis = dim % count if isinstance(dim, int) else 0
    name = "softmax" if op.name == "_softmax" else "log_softmax"
    length = note.shape[axis]
    if length < limits.min_length:
        return None
    others = [other for other in axes.batch_axes(note.id) if other != axis]
    if count == 2 and note.shape[0] == note.shape[1]:
        return None  # samples against samples: one of the two batches may come through what is not followed
    if axes.counts_samples(note.id, axis) and not others and _rest(note, axis) > 1:
        best = max(other for other in range(count) if other != axis)
        return _changed(op, name, axis, best, f"the batch axis of length {length}", "the samples of a batch compete")
    classes = _class_axis(tape, axes, op)
    if classes is not None and not classes & axes.origins(note.id, axis):
        fitting = [other for other in range(count) if classes & axes.origins(note.id, other)]
        if len(fitting) == 1:
            what = f"axis {axis} of length {length}, but the loss picks classes on axis {fitting[0]}"
            return _changed(op, name, axis, fitting[0], what, "the scores of the classes do not compete")
    other = _keys(tape, axes, op, axis)
    if op.name == "_softmax" and other is not None:
        what = f"the queries (axis {axis}), but values are summed over the keys (axis {other})"
        found = _changed(op, name, axis, other, what, "the weights of one query do not sum to one")
        return found.revised(severity=Severity.WARNING)
    return None


def _rest(note: TensorNote, axis: int) -> int:
    return max((length for other, length in enumerate(note.shape) if other != axis), default=1)


def _class_axis(tape: Tape, axes: TensorAxes, op: Op) -> frozenset[int] | None:
    """The origin of the axis on which the loss finds the class, where this softmax's result goes there unchanged."""
    queue, seen = [note.id for note in op.outputs], set[int]()
    while queue:
        tensor = queue.pop()
        for consumer in tape.consumers(tensor):
            if consumer.name in ("nll_loss_forward", "nll_loss2d_forward") and consumer.inputs[0].id == tensor:
                return axes.origins(tensor, min(1, len(consumer.inputs[0].shape) - 1))
            if consumer.name == "_ctc_loss" and consumer.inputs[0].id == tensor:
                return axes.origins(tensor, -1)
            if consumer.name == "mul" and (marked := _one_hot_axis(tape, axes, consumer, tensor)) is not None:
                return axes.origins(tensor, marked)
            if consumer.index not in seen and consumer.name in _MOVES:
                seen.add(consumer.index)
                queue += [note.id for note in consumer.outputs]
    return None


def _one_hot_axis(tape: Tape, axes: TensorAxes, product: Op, scores: int) -> int | None:
    """The axis of the classes where the other factor is one-hot: made by `one_hot` or by a scatter into zeros."""
    others = [note for note in product.inputs if note.id != scores]
    if len(product.inputs) != 2 or len(others) != 1 or len(others[0].shape) != len(axes.of.get(scores, ())):
        return None
    wanted, tensor = others[0].id, others[0].id
    while (maker := tape.producer(tensor)) is not None:
        dim = maker.arguments.get("dim")
        if maker.name in ("scatter", "scatter_") and isinstance(dim, int):
            marks = axes.origins(maker.outputs[0].id, dim)
            fitting = [axis for axis in range(len(others[0].shape)) if marks & axes.origins(wanted, axis)]
            return fitting[0] if len(fitting) == 1 else None
        if maker.name not in _MOVES | {"mul"} or len([n for n in maker.inputs if n.shape]) != 1:
            return None
        tensor = maker.inputs[0].id
    return None


def _keys(tape: Tape, axes: TensorAxes, op: Op, axis: int) -> int | None:
    """The axis over which values are summed, where this is attention and the softmax is over the other one."""
    if len(op.inputs[0].shape) < 3 or not _is_product_of_data(tape, op):
        return None
    queue, seen = [note.id for note in op.outputs], set[int]()
    while queue:
        tensor = queue.pop()
        for consumer in tape.consumers(tensor):
            if consumer.name == "bmm":
                side = 0 if consumer.inputs[0].id == tensor else 1
                summed = set(axes.of[tensor][-1 if side == 0 else -2])
                scores = axes.of[op.inputs[0].id]
                fitting = [i for i, atoms in enumerate(scores) if i != axis and summed & set(atoms)]
                return fitting[0] if len(fitting) == 1 and not summed & set(scores[axis]) else None
            if consumer.name in ("div", "sum"):
                return None  # normalised anew, as in slot attention
            if consumer.index not in seen and (consumer.name in _SCORES | {"expand", "native_dropout", "unsqueeze"}):
                seen.add(consumer.index)
                queue += [note.id for note in consumer.outputs]
    return None


def _is_product_of_data(tape: Tape, op: Op) -> bool:
    return any(above.name in ("bmm", "baddbmm") for above in tape.upstream(op, through=_SCORES))


def _statistic(tape: Tape, axes: TensorAxes, op: Op, limits: WrongDimLimits) -> Finding | None:
    note = op.inputs[0]
    if not note.requires_grad or not note.shape or not op.outputs:
        return None
    count = len(note.shape)
    if op.name == "native_layer_norm":
        shape = op.arguments.get("normalized_shape")
        over = set(range(count - (len(shape) if isinstance(shape, tuple) else 1), count))
    else:
        dims = op.arguments.get("dim")
        if dims is None or isinstance(dims, str):
            return None
        over = {int(dim) % count for dim in (dims if isinstance(dims, tuple) else (dims,))}
    batch = set(axes.batch_axes(note.id))
    if len(batch) != 1 or not batch <= over or note.shape[min(batch)] < limits.min_length:
        return None
    if op.name == "linalg_vector_norm" and (len(over) == 1 and _divides(tape, op) and not _contracted(tape, axes, op)):
        return _told(op, "vectors are normalised over the batch axis", "normalise over the feature axis: dim=-1")
    if op.name == "native_layer_norm":
        return _told(op, "layer norm runs over the batch axis", "give it the feature axis alone, and move that last")
    if op.name == "mean" and len(over) == 1 and count > 2 and op.module_kind != "" and _is_mapped(tape, op):
        return _told(op, "features are averaged over the batch axis", "average over the time or space axis")
    return None


def _divides(tape: Tape, op: Op) -> bool:
    """Whether the norm divides what it is the norm of, as `F.normalize` does."""
    queue = [note.id for note in op.outputs]
    for _ in range(6):
        consumers = [c for tensor in queue for c in tape.consumers(tensor)]
        if any(c.name == "div" and c.inputs[0].id == op.inputs[0].id for c in consumers):
            return True
        queue = [n.id for c in consumers if c.name in ("clamp_min", "clamp", "expand", "add") for n in c.outputs]
    return False


def _contracted(tape: Tape, axes: TensorAxes, op: Op) -> bool:
    """Whether a product sums over samples later on: a correlation of features, as Barlow Twins takes it."""
    return any(
        later.index > op.index
        and later.name in ("mm", "bmm", "addmm")
        and any(axes.counts_samples(n.id, -1 if i == 0 else -2) for i, n in enumerate(later.inputs[-2:]))
        for later in tape.forward
    )


def _is_mapped(tape: Tape, op: Op) -> bool:
    """Whether a layer with weights takes the result."""
    queue, seen = [note.id for note in op.outputs], set[int]()
    while queue:
        for consumer in tape.consumers(queue.pop()):
            if consumer.name in ("addmm", "mm", "convolution"):
                return True
            if consumer.name in _MOVES and consumer.index not in seen:
                seen.add(consumer.index)
                queue += [note.id for note in consumer.outputs]
    return False


def _changed(op: Op, name: str, axis: int, right: int, what: str, harm: str) -> Finding:
    place = op.source
    shape = op.inputs[0].shape
    return Finding(
        message=f"{name} of a tensor of shape {shape} runs over {what}: {harm}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=op.module or None
        ),
        measured={"dim": Measure(value=axis, threshold=right)},
        remedy=f"{name}(..., dim={right - len(shape) if right == len(shape) - 1 else right})",
        treatment=ChangeDim(
            function=name, dim=right, place=Place(path=place.path, line=place.line) if place else Place()
        ),
        demonstrated=harm,
    )


def _told(op: Op, what: str, remedy: str) -> Finding:
    place = op.source
    return Finding(
        message=f"{what} of a tensor of shape {op.inputs[0].shape}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=op.module or None
        ),
        severity=Severity.WARNING,
        measured={"samples": Measure(value=op.inputs[0].shape[0])},
        remedy=remedy,
        demonstrated="what a sample gets depends on the others of its batch",
    )


@check(
    "ARC022",
    "batch-read-as-time",
    Severity.ERROR,
    faq="training/architecture/incorrect",
    faults=("wrong-dim", "batch-mixing"),
)
def batch_read_as_time(
    tape: OpTape, axes: TensorAxes, tree: ModuleTree, calls: CallLog | None, limits: WrongDimLimits
) -> Iterator[Finding]:
    """A recurrent or attention layer that was made for (time, batch, features) gets (batch, time, features).

    ## What it measures
    The settings `batch_first` of every recurrent and attention layer, and on the taped step which axis of its input
    counts the samples.
    ## Why it hurts
    The layer runs along the batch: every sample is read as if it followed the one before it, and time is never seen.
    ## Example
    ```python
    self.rnn = nn.LSTM(32, 64)
    out, _ = self.rnn(x)
    ```
    ## Use instead
    ```python
    self.rnn = nn.LSTM(32, 64, batch_first=True)
    out, _ = self.rnn(x)
    ```
    ## When it is right
    Never, where the first axis counts samples with targets of their own. Inputs without a time axis are two-dimensional
    and silent.
    ## References
    `torch.nn.LSTM`, `torch.nn.MultiheadAttention`: argument `batch_first`.
    """
    done: set[str] = set()
    for op in tape.first.forward:
        record = _layer(tree, op)
        if record is None or record.path in done or not op.inputs or len(op.inputs[0].shape) != 3:
            continue
        note = op.inputs[0]
        if note.parameter or not note.floating or op.source is None:
            continue
        wanted = 0 if record.settings.get("batch_first") else 1
        seen = axes.batch_axes(note.id)
        if seen:  # initial states that were made of zeros come first and count nothing
            done.add(record.path)
        if seen != (1 - wanted,) or min(note.shape[:2]) < limits.min_length:
            continue
        if calls is not None and calls.in_library(record.path, record.root):
            continue
        place = record.created or op.source
        layout = "(batch, time, features)" if wanted else "(time, batch, features)"
        yield Finding(
            message=f"{record.kind} {record.path} has batch_first={not wanted} and gets {layout} {note.shape}: "
            "it runs along the batch",
            location=Location(path=place.path, line=place.line, module=record.path or None),
            measured={"batch_axis": Measure(value=seen[0], threshold=wanted)},
            remedy="batch_first=True" if wanted else "leave batch_first out, or transpose the input",
            demonstrated="the axis along which the layer runs counts the samples",
        )


def _layer(tree: ModuleTree, op: Op) -> ModuleRecord | None:
    if op.module_kind in _RECURRENT:
        return tree.module(op.module, op.root or 0)
    if op.module_kind == "MultiheadAttention" or op.module_kind in _ATTENTION:
        record = tree.module(op.module, op.root or 0)
        if record is not None and "batch_first" in record.settings:
            return record
    return None
