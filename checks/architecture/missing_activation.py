"""Linear layers that follow each other with nothing between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from doctor.evidence.base import Source
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import InsertActivation

_MAPS = ("addmm", "mm", "convolution", "linear", "mkldnn_linear")
_SHAPE_ONLY = frozenset(
    {
        "view", "_unsafe_view", "reshape", "t", "transpose", "permute", "squeeze", "unsqueeze", "clone", "_to_copy",
        "native_dropout", "expand", "_reshape_alias", "alias", "detach", "avg_pool2d", "mean", "contiguous",
    }
)  # fmt: skip
_NONLINEAR = frozenset(
    {
        "relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "hardtanh", "hardswish", "softplus", "threshold",
        "max_pool2d_with_indices", "_softmax", "_safe_softmax", "mish", "prelu", "_prelu_kernel", "exp", "log_sigmoid_forward", "clamp",
        "clamp_min", "sin", "native_layer_norm", "native_batch_norm", "gru_cell", "_thnn_fused_gru_cell",
    }
)  # fmt: skip


class MissingActivationLimits(Limits):
    """Thresholds of ARC003."""

    min_width: int = 4  # output features of the first map; scalars and pairs are no hidden layers


class _Pair(NamedTuple):
    first: Op
    second: Op


@check("ARC003", "missing-activation", Severity.WARNING, faq="training/architecture/missing")
def missing_activation(tape: OpTape, tree: ModuleTree | None, limits: MissingActivationLimits) -> Iterator[Finding]:
    """Two layers with weights follow each other with only linear operations between them.

    ## What it measures
    On the taped step, for every matrix product or convolution with a parameter, what its input was computed by: another
    such map through changes of shape, means or dropout alone. Pairs whose middle is narrower than both ends (low rank,
    latent codes) and grouped convolutions are left out. The trial inserts a ReLU.
    ## Why it hurts
    Two linear maps are one linear map: the depth adds nothing, and curved targets cannot be fitted.
    ## Example
    ```python
    net = nn.Sequential(nn.Linear(10, 64), nn.Linear(64, 64), nn.Linear(64, 1))
    ```
    ## Use instead
    ```python
    net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    ```
    ## When it is right
    Layers inside the models of libraries are left alone. Projections of attention meet in a product; factorised
    embeddings, LoRA and bottlenecks are narrow in the middle; what feeds several maps, a recurrent layer or a sum is a
    shared projection; maps with a norm layer or a residual sum between them are left alone.
    ## References
    Goodfellow et al., "Deep Learning" (2016), section 6.1; NeuraLint's MissingRelu.
    """
    pairs = [pair for pair in _pairs(tape.first, limits) if _authored(pair, tree)]
    if not pairs:
        return
    nonlinear = any(
        op.name in _NONLINEAR and op.grad_enabled for op in tape.first.forward if not op.name.endswith("_softmax")
    )
    modules = tuple(dict.fromkeys(pair.first.module for pair in pairs if pair.first.module))
    names = [f"{pair.first.module or pair.first.name} -> {pair.second.module or pair.second.name}" for pair in pairs]
    place, related = _places(pairs[0], tree)
    yield Finding(
        message=f"{len(names)} pairs of layers have no activation between them: {', '.join(names[:3])}"
        + ("" if nonlinear else "; the whole model is linear"),
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=pairs[0].first.module or None
        ),
        severity=Severity.WARNING if nonlinear else Severity.ERROR,
        measured={"linear_pairs": Measure(value=len(names), threshold=0)},
        remedy="put an activation (nn.ReLU, nn.GELU) between the layers",
        treatment=InsertActivation(modules=modules) if modules else None,
        related=related,
        demonstrated=None if nonlinear else "no operation on the taped step is nonlinear but the loss",
    )


def _authored(pair: _Pair, tree: ModuleTree | None) -> bool:
    """Whether the user's own code put the layers one behind the other, and not a model of a library."""
    known = [tree.module(op.module, op.root or 0) for op in pair if tree is not None and op.module]
    return all(module is None or module.authored for module in known)


def _places(pair: _Pair, tree: ModuleTree | None) -> tuple[Source | None, tuple[Related, ...]]:
    """Where the activation is missing: in the definition of a Sequential, else where the second layer is called."""
    called = pair.second.source or pair.first.source
    first, second = ((tree.module(op.module) if tree and op.module else None) for op in (pair.first, pair.second))
    parent = pair.second.module.rpartition(".")[0]
    container = tree.module(parent) if tree else None
    together = container is not None and container.kind == "Sequential"
    if together and second and second.created and pair.first.module.rpartition(".")[0] == parent:
        return second.created, _related(called, "the layers are called here", pair.second.module)
    return called, _related(first.created if first else None, "the first of the layers is made here", pair.first.module)


def _related(place: Source | None, message: str, module: str) -> tuple[Related, ...]:
    if place is None:
        return ()
    return (Related(location=Location(path=place.path, line=place.line, module=module or None), message=message),)


def _pairs(tape: Tape, limits: MissingActivationLimits) -> Iterator[_Pair]:
    for second in tape.named(*_MAPS):
        data = _data(tape, second)
        if data is None or not second.grad_enabled:
            continue
        first = _map_before(tape, data)
        if first is None or not first.grad_enabled or first.source is None:
            continue
        width, into, out = (
            _width(first, first.outputs[0]),
            _width(first, _data(tape, first)),
            _width(second, second.outputs[0]),
        )
        if width < limits.min_width or width < min(into, out) or _grouped(first) or _grouped(second):
            continue
        if _is_recurrent(first) or _is_recurrent(second) or not _feeds_only(tape, first, second):
            continue
        if not _meets_data(tape, second):
            yield _Pair(first, second)


def _is_recurrent(op: Op) -> bool:
    """Projections into and out of recurrent layers meet gates."""
    return any(kind in op.module_kind for kind in ("RNN", "GRU", "LSTM", "MultiheadAttention"))


def _feeds_only(tape: Tape, first: Op, second: Op) -> bool:
    """Whether one map's result goes to the other alone: what feeds several maps, or a sum around them, is a projection
    that they share (queries, keys and values; heads; a residual stream) and no hidden layer.
    """
    queue, seen, ends = [note.id for note in first.outputs[:1]], set[int](), set[int]()
    while queue:
        for consumer in tape.consumers(queue.pop()):
            if consumer.index in seen or not consumer.grad_enabled:
                continue
            seen.add(consumer.index)
            if _passes(tape, consumer):
                queue += [note.id for note in consumer.outputs]
            else:
                ends.add(consumer.index)
    return ends <= {second.index}


def _passes(tape: Tape, op: Op) -> bool:
    """Whether what comes out is linear in what goes in."""
    linear = op.name in _SHAPE_ONLY or _drops_out(tape, op) or _adds_bias(tape, op)
    return linear or _mixes_rows(tape, op)


def _mixes_rows(tape: Tape, op: Op) -> bool:
    """A product with a fixed matrix, as the adjacency of a graph."""
    pair = op.inputs[:2]
    if op.name not in ("mm", "bmm") or len(pair) < 2 or any(_is_weight(tape, note) for note in pair):
        return False
    return sum(bool(note.requires_grad) for note in pair) == 1


def _adds_bias(tape: Tape, op: Op) -> bool:
    return op.name == "add" and len(op.inputs) == 2 and sum(_is_weight(tape, note) for note in op.inputs) == 1


def _meets_data(tape: Tape, op: Op) -> bool:
    """Whether a map's result is multiplied by another computed tensor, as queries, keys, values and gates are."""
    queue, seen = [note.id for note in op.outputs[:1]], set[int]()
    while queue:
        for consumer in tape.consumers(queue.pop()):
            if consumer.index in seen:
                continue
            seen.add(consumer.index)
            if consumer.name in ("bmm", "baddbmm") or consumer.name.startswith("_scaled_dot_product"):
                return True
            if consumer.name in _SHAPE_ONLY | {"select", "split", "unbind", "chunk", "div"} or _adds_bias(
                tape, consumer
            ):
                queue += [note.id for note in consumer.outputs]
            elif consumer.name == "mul" and len(consumer.inputs) == 2 and not _drops_out(tape, consumer):
                return True
    return False


def _map_before(tape: Tape, tensor: TensorNote) -> Op | None:
    for _ in range(12):
        producer = tape.producer(tensor.id)
        if producer is None:
            return None
        if producer.name in _MAPS and _data(tape, producer) is not None:
            return producer
        if not producer.inputs or not _passes(tape, producer):
            return None
        if _mixes_rows(tape, producer):
            tensor = next(note for note in producer.inputs[:2] if note.requires_grad)
            continue
        tensor = next((note for note in producer.inputs if not _is_weight(tape, note)), producer.inputs[0])
    return None


def _drops_out(tape: Tape, op: Op) -> bool:
    """Whether this is dropout: a product with a scaled random mask."""
    mask = tape.producer(op.inputs[1].id) if op.name == "mul" and len(op.inputs) == 2 else None
    return op.name == "native_dropout" or (mask is not None and mask.name in ("div", "bernoulli"))


def _data(tape: Tape, op: Op) -> TensorNote | None:
    """The operand that is no parameter; None when there is no parameter among the operands, or nothing else."""
    operands = op.inputs[1:3] if op.name == "addmm" else op.inputs[:2]
    if len(operands) < 2:
        return None
    weights = [_is_weight(tape, note) for note in operands]
    if sum(weights) != 1:
        return None
    return operands[weights.index(False)]


def _is_weight(tape: Tape, note: TensorNote) -> bool:
    for _ in range(4):
        if note.parameter:
            return True
        producer = tape.producer(note.id)
        if (
            producer is None
            or producer.name not in ("t", "transpose", "permute", "view", "_to_copy")
            or not producer.inputs
        ):
            return False
        note = producer.inputs[0]
    return False


def _width(op: Op, note: TensorNote | None) -> int:
    if note is None or not note.shape:
        return 0
    return note.shape[1] if op.name == "convolution" and len(note.shape) > 1 else note.shape[-1]


def _grouped(op: Op) -> bool:
    groups = op.arguments.get("groups", 1)
    return isinstance(groups, int) and groups > 1
