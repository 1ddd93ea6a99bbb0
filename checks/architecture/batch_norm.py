"""Batch normalisation with settings or batches that defeat it."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from doctor.evidence.call_log import CallLog
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import Treatment
from doctor.trials.treatments.shapes import BypassModule, SetBatchNorm

_LOSSES = ("_log_softmax", "mse_loss", "binary_cross_entropy_with_logits", "smooth_l1_loss", "huber_loss")
_THROUGH = frozenset(
    {"view", "_unsafe_view", "squeeze", "select", "transpose", "permute", "slice", "_to_copy", "sigmoid"}
)


class BatchNormLimits(Limits):
    """Thresholds of ARC013."""

    eps: float = 0.05  # libraries use 1e-5 to 1e-3; 0.8 is a momentum in the place of eps
    momentum: float = 0.9  # of the new batch in the running statistics; 0.1 is the default, TensorFlow writes 1 - it
    idle: float = 2e-4  # below, ten thousand batches hardly fill the running statistics; 3e-4 is the least seen in use
    few_values: int = 4  # values a channel from which a variance is estimated


@check("ARC013", "batchnorm-misuse", Severity.WARNING, faq="training/architecture/incorrect")
def batchnorm_misuse(
    tree: ModuleTree, tape: OpTape | None, calls: CallLog | None, limits: BatchNormLimits
) -> Iterator[Finding]:
    """Batch normalisation is given an eps, a momentum, a batch or a place for which it is not made.

    ## What it measures
    Of every batch norm: `eps` of at least 0.05 (the second positional argument, often meant as momentum); a momentum below
    2e-4, or of at least 0.9; on the taped step, at most `few_values` values a channel in a training batch; and a batch norm
    that normalises the outputs which the loss takes.
    ## Why it hurts
    A large eps damps what was to be normalised; a momentum near 1 makes evaluation depend on the last training batch, one
    near 0 leaves the running statistics at their start; two values a channel always become -1 and 1.
    ## Example
    ```python
    self.norm = nn.BatchNorm1d(256, 0.8)
    ```
    ## Use instead
    ```python
    self.norm = nn.BatchNorm1d(256, momentum=0.2)
    ```
    ## When it is right
    `momentum=None` is a cumulative mean; 0.003 and 0.01 are common. Convolutions at batch size 1 take their statistics
    over space. Projection heads of self-supervised models end in a batch norm on purpose: no loss against targets.
    ## References
    `torch.nn.BatchNorm1d(num_features, eps=1e-05, momentum=0.1, ...)`; `BatchNorm1d(n, 0.8)` is widespread in public code.
    """
    norms = [
        m for m in tree.modules if "BatchNorm" in m.kind and "eps" in m.settings and m.training_calls and m.authored
    ]
    for found in (_eps(norms, limits), _momentum(norms, limits), _few(tree, norms, tape, limits), _last(norms, tape)):
        if found is not None:
            yield found
            return


def _eps(norms: list[ModuleRecord], limits: BatchNormLimits) -> Finding | None:
    large = [m for m in norms if _number(m, "eps") >= limits.eps]
    if not large:
        return None
    eps = _number(large[0], "eps")
    return _finding(
        large[0],
        f"{len(large)} batch norm layers have eps={eps:g}: it is added to the variance, and is no momentum",
        {"eps": Measure(value=eps, threshold=limits.eps)},
        f"momentum={1 - eps:.2g} by its name (PyTorch's momentum is the weight of the new batch)",
        SetBatchNorm(eps=1e-5, modules=tuple(m.path for m in large)),
        f"eps={eps:g} where 1e-05 is usual",
    )


def _momentum(norms: list[ModuleRecord], limits: BatchNormLimits) -> Finding | None:
    for record in norms:
        value = record.settings.get("momentum")
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not record.settings.get("track_running_stats")
        ):
            continue
        if value >= limits.momentum or value < limits.idle:
            harm = (
                f"the running statistics are {value:.0%} those of the last batch"
                if value >= limits.momentum
                else "the running statistics stay at mean 0 and variance 1"
            )
            return _finding(
                record,
                f"momentum={value:g} in {record.kind} {record.path}: {harm}",
                {
                    "momentum": Measure(
                        value=value, threshold=limits.momentum if value >= limits.momentum else limits.idle
                    )
                },
                f"momentum={1 - value:.2g} (the weight of the new batch)"
                if limits.momentum <= value < 1
                else "momentum=0.1",
                None,
                harm,
            )
    return None


def _few(tree: ModuleTree, norms: list[ModuleRecord], tape: OpTape | None, limits: BatchNormLimits) -> Finding | None:
    if tape is None or not tape.tapes or len(tape.tapes) < 2:
        return None
    counts: dict[str, int] = {}
    for one in tape.tapes:
        for op in one.named("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"):
            shape = op.inputs[0].shape if op.inputs else ()
            if op.arguments.get("training") is not False and len(shape) > 1 and op.grad_enabled:
                values = prod(shape) // max(1, shape[1])
                counts[op.module] = max(values, counts.get(op.module, 0))
    for record in norms:
        values = counts.get(record.path, limits.few_values + 1)
        if values <= limits.few_values:
            harm = (
                "two values of a channel always become -1 and 1" if values == 2 else "their variance is mostly chance"
            )
            return _finding(
                record,
                f"{record.kind} {record.path} normalises over {values} values a channel: {harm}",
                {"values": Measure(value=values, threshold=limits.few_values)},
                "a larger batch, or nn.LayerNorm / nn.GroupNorm",
                None,
                harm,
            )
    return None


def _last(norms: list[ModuleRecord], tape: OpTape | None) -> Finding | None:
    if tape is None or not tape.tapes:
        return None
    op = _normalised_output(tape.first)
    record = next((m for m in norms if op is not None and m.path == op.module), None)
    if record is None:
        return None
    return _finding(
        record,
        f"{record.kind} {record.path} normalises the outputs themselves: what one sample is predicted depends on its batch",
        {"layers_after": Measure(value=0, threshold=1)},
        "leave the batch norm behind the last layer out",
        BypassModule(modules=(record.path,)),
        None,
    )


def _normalised_output(tape: Tape) -> Op | None:
    for loss in tape.named(*_LOSSES):
        if len(loss.inputs) > 1 and all(note.requires_grad for note in loss.inputs[:2]):
            continue
        note = loss.inputs[0] if loss.inputs else None
        for _ in range(6):
            op = tape.producer(note.id) if note is not None else None
            if op is None or not op.inputs:
                break
            if op.name in ("native_batch_norm", "_native_batch_norm_legit"):
                return op
            if op.name not in _THROUGH:
                break
            note = op.inputs[0]
    return None


def _number(record: ModuleRecord, name: str) -> float:
    value = record.settings.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _finding(
    record: ModuleRecord,
    message: str,
    measured: dict[str, Measure],
    remedy: str,
    treatment: Treatment | None,
    demonstrated: str | None,
) -> Finding:
    place = record.created
    return Finding(
        message=message,
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=record.path or None
        ),
        measured=measured,
        remedy=remedy,
        treatment=treatment,
        demonstrated=demonstrated,
    )
