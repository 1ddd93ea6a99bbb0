"""Models too small for what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.batch_log import BatchLog
from doctor.evidence.call_log import CallLog
from doctor.evidence.loss_calls import LossCall, LossCalls
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.evidence.reference_run import ReferenceRun
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

_MAPS = ("addmm", "mm", "convolution")
_NONLINEAR = frozenset(
    {
        "relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "hardtanh", "hardswish", "softplus", "threshold",
        "max_pool2d_with_indices", "mish", "prelu", "_prelu_kernel", "exp", "sin", "pow", "_softmax", "_safe_softmax", "bmm",
        "mkldnn_rnn_layer", "mul", "embedding", "clamp_min", "clamp", "abs",
    }
)  # fmt: skip


class CapacityLimits(Limits):
    """Thresholds of ARC016."""

    bottleneck: int = 2  # features through which everything has to pass
    behind: float = 0.6  # the reference's held-out loss as a share of the program's own training loss
    plateau: float = 0.1  # share of its progress that the loss still makes in the last quarter


@check("ARC016", "insufficient-capacity", Severity.WARNING, faq="training/architecture/incorrect")
def insufficient_capacity(
    tree: ModuleTree,
    tape: OpTape,
    losses: LossCalls,
    trace: TrainingTrace,
    reference: ReferenceRun,
    batches: BatchLog | None,
    calls: CallLog | None,
    limits: CapacityLimits,
) -> Iterator[Finding]:
    """The model cannot express what a small reference model learns from the same samples.

    ## What it measures
    Two observations together. The shape: everything passes through at most `bottleneck` features between wider layers
    (with more classes than that), or no operation between input and output is nonlinear. The outcome: the reference model's loss
    on held-out samples is below `behind` of the program's own training loss, which has levelled off.
    ## Why it hurts
    Training longer or at other rates does not help: the best that this architecture can do is reached.
    ## Example
    ```python
    net = nn.Sequential(nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 10))
    ```
    ## Use instead
    ```python
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    ```
    ## When it is right
    Codes of autoencoders are narrow on purpose, and linear models are chosen where they do; both keep up with the
    reference or are not compared with it.
    ## References
    Goodfellow et al., "Deep Learning" (2016), section 5.2.
    """
    if not reference.learns or not _levelled(trace, limits):
        return
    call = next((c for c in losses.places if c.in_training), None)
    level = trace.loss_level(trace.optimizers[0], False) if len(trace.optimizers) == 1 else None
    if call is None or level is None or not _comparable(call):
        return
    scale = _scale(call, batches)
    if scale is None or reference.loss * scale > limits.behind * level:
        return
    narrow = _narrow(tree, tape.first, call, limits)
    linear = not any(op.name in _NONLINEAR and op.grad_enabled and op.module_kind != "" for op in tape.first.forward)
    record = narrow or (_first_layer(tree, tape.first) if linear else None)
    if record is None or (calls is not None and calls.in_library(record.path.rpartition(".")[0], record.root)):
        return
    what = (
        f"{record.kind} {record.path} passes {_width(record)} features on"
        if narrow
        else "the model is linear from its input to its output"
    )
    place = record.created
    yield Finding(
        message=f"{what}; a small reference model reaches a held-out loss of {reference.loss * scale:.3g} on the same "
        f"samples, where this one's training loss stays at {level:.3g}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=record.path or None
        ),
        measured={
            "reference_share": Measure(value=reference.loss * scale / level, threshold=limits.behind),
            "loss": Measure(value=level),
        },
        remedy="make this layer wider" if narrow else "put a hidden layer with an activation before the output",
        demonstrated="a small reference model learns the same samples far better",
    )


def _levelled(trace: TrainingTrace, limits: CapacityLimits) -> bool:
    values = trace.losses()
    if len(trace.optimizers) != 1 or len(values) < 24:
        return False
    quarter = len(values) // 4
    levels = [sum(values[i * quarter : (i + 1) * quarter]) / quarter for i in range(4)]
    return levels[2] - levels[3] <= limits.plateau * max(levels[0] - levels[3], 0.1 * abs(levels[0]))


def _comparable(call: LossCall) -> bool:
    return call.reduction == "mean" and call.function in ("cross_entropy", "nll_loss", "mse_loss")


def _scale(call: LossCall, batches: BatchLog | None) -> float | None:
    """What the reference's loss (of standardised targets) amounts to in the program's units."""
    if call.function != "mse_loss":
        return 1.0
    stats = next((t for t in (batches.targets if batches else ()) if t.source == call.source and t.std), None)
    return stats.std**2 if stats is not None and stats.std else None


def _narrow(tree: ModuleTree, tape: Tape, call: LossCall, limits: CapacityLimits) -> ModuleRecord | None:
    outputs = call.input_shape[-1] if len(call.input_shape) > 1 else 1
    for op in tape.named(*_MAPS):
        record = tree.module(op.module, op.root or 0)
        width = op.outputs[0].shape[1] if op.outputs and len(op.outputs[0].shape) > 1 else 0
        if record is None or not 0 < width <= limits.bottleneck or op.name == "convolution":
            continue
        into = op.inputs[-2].shape[-1]
        # The outputs themselves are no bottleneck: some layer has to follow.
        if into >= 4 * width and outputs > width and _is_followed(tape, op):
            return record
    return None


def _is_followed(tape: Tape, op: Op) -> bool:
    queue, seen = [note.id for note in op.outputs], set[int]()
    while queue:
        for consumer in tape.consumers(queue.pop()):
            if consumer.name in _MAPS:
                return True
            if consumer.name == "add" and sum(n.requires_grad is True and not n.parameter for n in consumer.inputs) > 1:
                return False  # something else goes around it
            if consumer.index not in seen and len(seen) < 12:
                seen.add(consumer.index)
                queue += [note.id for note in consumer.outputs]
    return False


def _first_layer(tree: ModuleTree, tape: Tape) -> ModuleRecord | None:
    op = next((op for op in tape.named(*_MAPS) if op.module), None)
    return tree.module(op.module, op.root or 0) if op is not None else None


def _width(record: ModuleRecord) -> object:
    return record.settings.get("out_features", "few")
