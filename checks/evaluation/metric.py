"""Metrics that count something else than they say."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.evaluation_use import Carried, Division, EvaluationUse, Window
from doctor.evidence.loss_calls import LossCalls
from doctor.evidence.op_tape import Op, TensorNote
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check

_SHAPE_KEEPING = ("_softmax", "_log_softmax", "sigmoid", "_to_copy", "detach", "clone", "alias")
_COMPARING = ("eq", "ne", "sub", "rsub")


@check("EVL006", "metric-bug", Severity.ERROR, faq="training/loss/incorrect")
def metric_bug(use: EvaluationUse, losses: LossCalls | None) -> Iterator[Finding]:
    """A metric is computed along a wrong axis, over a broadcast, divided by a wrong count, or never set back.

    ## What it measures
    The operations on an evaluation's output: an argmax over the samples, over everything or over an axis of length 1; a comparison or
    difference of `(n, 1)` with `(n,)`; logits held against 0.5 though the loss takes their sigmoid. And the source of
    the evaluation: what is summed up (correct samples, means of batches) and by which length it is divided; sums, lists and torchmetrics
    objects that grow in every evaluation and are never emptied.
    ## Why it hurts
    The model may be fine; the number says otherwise, or says that it is fine when it is not.
    ## Example
    ```python
    accuracy = correct / len(test_loader)
    ```
    ## Use instead
    ```python
    accuracy = correct / len(test_loader.dataset)
    ```
    ## When it is right
    Means of batches divided by the number of batches, sums divided by the number of samples. Metric objects that are
    given to Lightning's `self.log` are reset by it.
    ## References
    PyTorch broadcasting semantics.
    """
    yielded: set[Source | None] = set()
    for found in _found(use, losses):
        place = (found.location.path, found.location.line)
        source = Source(place[0], place[1]) if place[0] and place[1] else None
        if source not in yielded:
            yielded.add(source)
            yield found


def _found(use: EvaluationUse, losses: LossCalls | None) -> Iterator[Finding]:
    trained = {call.function for call in losses.places if call.in_training} if losses else set()
    for window in use.windows:
        below = window.descendants()
        raw = _like_output(window, squashed=False)
        like = _like_output(window, squashed=True)
        for op in window.tape.ops:
            if op.inputs and op.name in ("argmax", "max") and op.inputs[0].id in like and "dim" in op.arguments:
                yield from _argmax(op, trained)
            if op.name in _COMPARING and len(op.inputs) == 2:
                yield from _broadcast(op, below)
            if op.name in ("gt", "ge", "round") and op.inputs and op.inputs[0].id in raw:
                yield from _logits(op, trained)
    for collapse in use.collapses:
        shape = "x".join(map(str, collapse.shape))
        yield _finding(
            collapse.source,
            f"{collapse.text} is one number for all {collapse.shape[0]} samples of {shape}: every label is compared with it",
            "take the argmax over the class axis: argmax(dim=-1)",
        )
    for division in use.divisions:
        yield from _division(division)
    for carried in use.carried:
        yield _carried(carried)


def _like_output(window: Window, squashed: bool) -> set[int]:
    """The output and what has its values (or its order, when squashed) and its shape."""
    names = _SHAPE_KEEPING if squashed else ("_to_copy", "detach", "clone", "alias", "view", "squeeze")
    found = {window.output}
    for op in window.tape.ops:
        if op.name in names and op.inputs and op.inputs[0].id in found and op.output is not None:
            found.add(op.output.id)
    return found


def _argmax(op: Op, trained: set[str]) -> Iterator[Finding]:
    shape, dim = op.inputs[0].shape, op.arguments.get("dim")
    if not isinstance(dim, int) or isinstance(dim, bool) or len(shape) < 2:
        return
    axis = dim % len(shape)
    if shape[axis] == 1:
        yield _finding(
            op.source,
            f"argmax over an axis of length 1 of {shape}: the prediction is always 0",
            "compare the single output with a threshold, or give the model one output a class",
        )
    elif len(shape) == 2 and axis == 0 and shape[0] > 1 and trained & {"cross_entropy", "nll_loss"}:
        yield _finding(
            op.source,
            f"argmax over the {shape[0]} samples of {shape}, not over the {shape[1]} classes",
            "take the argmax over the class axis: argmax(dim=1)",
        )


def _broadcast(op: Op, below: frozenset[int]) -> Iterator[Finding]:
    one, two = op.inputs
    if (one.id in below) == (two.id in below):
        return
    column, row = (one, two) if len(one.shape) > len(two.shape) else (two, one)
    count = row.shape[0] if len(row.shape) == 1 else 0
    if count > 1 and column.shape == (count, 1):
        yield _finding(
            op.source,
            f"{_text(one)} against {_text(two)} is broadcast to {count}x{count}: every prediction meets every target",
            "give both the same shape: squeeze(1) or unsqueeze(1)",
        )


def _logits(op: Op, trained: set[str]) -> Iterator[Finding]:
    half = op.name == "round" or op.arguments.get("other") == 0.5
    if half and trained == {"binary_cross_entropy_with_logits"}:
        yield _finding(
            op.source,
            "logits are held against 0.5, which is a probability of 0.62",
            "apply torch.sigmoid first, or hold the logits against 0",
            Severity.WARNING,
        )


def _division(division: Division) -> Iterator[Finding]:
    what = {
        ("correct", "batches"): "a number of correct samples is divided by the number of batches",
        ("mean", "samples"): "a sum of batch means is divided by the number of samples",
        ("loss-mean", "samples"): "a sum of mean losses of batches is divided by the number of samples",
        ("loss-sum", "batches"): "a sum of losses over samples is divided by the number of batches",
    }.get((division.kind, division.counts))
    if what is None or (division.counts == "batches" and division.batch_size < 2):
        return
    yield _finding(
        division.source,
        f"{what}: {division.numerator} / {division.denominator}",
        "divide sums over samples by the number of samples, and sums of batch means by the number of batches",
        Severity.WARNING if division.kind.startswith("loss") else None,
    )


def _carried(carried: Carried) -> Finding:
    cure = f"call {carried.name}.reset()" if carried.kind == "metric" else f"begin {carried.name} anew"
    return _finding(
        carried.source,
        f"{carried.name} is never set back: each evaluation counts the samples of all evaluations before it, too",
        f"{cure} before each evaluation",
    )


def _finding(place: Source | None, what: str, cure: str, severity: Severity | None = None) -> Finding:
    return Finding(
        message=what,
        location=Location(path=place.path if place else None, line=place.line if place else None),
        measured={"metric": Measure(value=what.split(":")[0])},
        remedy=cure,
        severity=severity,
        demonstrated="seen in the evaluation of the observed run",
    )


def _text(note: TensorNote) -> str:
    return "x".join(map(str, note.shape))
