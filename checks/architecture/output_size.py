"""Outputs that are more or fewer than the targets."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.loss_calls import LossCalls
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check

_ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_MAPS = ("addmm", "mm", "convolution")


class OutputSizeLimits(Limits):
    """Thresholds of ARC007."""

    excess: int = 3  # times as many outputs as classes seen; heads for more labels than a run shows are common
    min_labels: int = 200  # labels seen before the classes are taken to be known


@check("ARC007", "wrong-output-size", Severity.WARNING, faq="training/architecture/incorrect")
def wrong_output_size(
    calls: LossCalls,
    batches: BatchLog | None,
    tape: OpTape | None,
    tree: ModuleTree | None,
    limits: OutputSizeLimits,
) -> Iterator[Finding]:
    """The model's outputs are not as many as the targets, and nothing crashes.

    ## What it measures
    Elementwise losses that are called with (N, k) against (N, 1), or (N, 1) against (N, k): one of them is repeated along
    the other. For class labels, outputs that are `excess` times as many as the classes seen (told as info).
    ## Why it hurts
    Several outputs are fitted to one number, or one output to the mean of several; which of them counts later on is
    chance.
    ## Example
    ```python
    self.out = nn.Linear(64, 10)
    loss = F.mse_loss(self.out(h), y.unsqueeze(1))
    ```
    ## Use instead
    ```python
    self.out = nn.Linear(64, 1)
    loss = F.mse_loss(self.out(h), y.unsqueeze(1))
    ```
    ## When it is right
    An ensemble of heads may be fitted to one target on purpose; expand the target to say so. Vocabularies have more
    entries than a run shows.
    ## References
    PyTorch warns "Using a target size that is different to the input size" for functional losses.
    """
    for call in calls.places:
        one, two = call.input_shape, call.target_shape
        if not call.in_training or call.function not in _ELEMENTWISE or len(one) != len(two) or len(one) < 2:
            continue
        if one[:-1] == two[:-1] and one[-1] != two[-1] and 1 in (one[-1], two[-1]) and one[0] > 1:
            place, related = _last_layer(tape, tree, call.source)
            yield Finding(
                message=f"{call.function} compares {one[-1]} outputs with {two[-1]} targets a sample "
                f"(shapes {one} and {two}): the smaller one is repeated",
                location=Location(path=place.path, line=place.line) if place else Location(),
                measured={"outputs": Measure(value=one[-1], threshold=two[-1])},
                remedy=f"give the last layer {two[-1]} output{'s' if two[-1] > 1 else ''}",
                related=related,
                demonstrated=f"{one[-1]} outputs meet {two[-1]} targets a sample",
            )
            return
    yield from _excess(calls, batches, tape, tree, limits)


def _excess(
    calls: LossCalls,
    batches: BatchLog | None,
    tape: OpTape | None,
    tree: ModuleTree | None,
    limits: OutputSizeLimits,
) -> Iterator[Finding]:
    for call in calls.places:
        if not call.in_training or call.function not in ("cross_entropy", "nll_loss") or len(call.input_shape) != 2:
            continue
        stats = [target for target in (batches.targets if batches else ()) if target.source == call.source]
        labels = {label for target in stats for batch in target.labels for label in batch}
        seen = sum(len(batch) for target in stats for batch in target.labels)
        outputs = call.input_shape[1]
        if seen >= limits.min_labels and labels and outputs >= max(limits.excess * len(labels), len(labels) + 5):
            place, related = _last_layer(tape, tree, call.source)
            yield Finding(
                message=f"{outputs} outputs for the {len(labels)} classes that {seen} labels show",
                location=Location(path=place.path, line=place.line) if place else Location(),
                severity=Severity.INFO,
                measured={"outputs": Measure(value=outputs, threshold=limits.excess * len(labels))},
                remedy=f"give the last layer {max(labels) + 1} outputs, if there are no further classes",
                related=related,
            )
            return


def _last_layer(
    tape: OpTape | None, tree: ModuleTree | None, loss: Source | None
) -> tuple[Source | None, tuple[Related, ...]]:
    """Where the layer that gives the outputs is made."""
    op = _map_before_loss(tape.first, loss) if tape is not None and tape.tapes else None
    record = tree.module(op.module, op.root or 0) if tree is not None and op is not None and op.module else None
    if record is None or record.created is None:
        return loss, ()
    related = (Related(location=Location(path=loss.path, line=loss.line), message="the loss is here"),) if loss else ()
    return record.created, related


def _map_before_loss(tape: Tape, loss: Source | None) -> Op | None:
    at = next((op for op in tape.forward if op.source == loss and any(note.requires_grad for note in op.inputs)), None)
    if at is None:
        return None
    if at.name in _MAPS:
        return at
    return next((op for op in tape.upstream(at) if op.name in _MAPS and op.inputs), None)
