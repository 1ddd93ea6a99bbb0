"""Targets as the losses saw them, and what the model predicted for them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class TargetRecord:
    """One place where a loss is computed.

    `outputs` is the number of classes of its prediction. For class ids: `classes` counts the targets by class over all
    batches; `predicted`, `hits` and `late_classes` count predictions, right ones and targets in the later half of the
    run. For numbers: `mean` and `std` of the targets, `first_output` the mean and deviation of the first prediction,
    `relative_error` the squared error of the last third over the variance of the targets, `within` the variance within
    batches over all variance (None where a sample has several targets).
    """

    function: str
    training: bool = True
    outputs: int = 1
    target_dims: int = 1
    target_dtype: str = "int64"
    ignore_index: int = -100
    weighted: bool = False
    reduction: str = "mean"
    batches: int = 1
    elements: int = 0
    minimum: float | None = None
    maximum: float | None = None
    outside: int = 0
    non_finite: int = 0
    classes: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()
    hits: tuple[int, ...] = ()
    late_classes: tuple[int, ...] = ()
    mean: float | None = None
    std: float | None = None
    first_output: tuple[float, float] | None = None
    relative_error: float | None = None
    within: float | None = None
    turns: float = 0.0
    root: int | None = None
    source: Source | None = None
    criterion: Source | None = None


@dataclass(frozen=True)
class TargetLog(Evidence):
    """All places."""

    places: tuple[TargetRecord, ...] = ()


@probe
def target_log(recording: Recording) -> TargetLog:
    """Read them."""
    plain = (
        "function", "training", "outputs", "target_dims", "target_dtype", "ignore_index", "weighted", "reduction",
        "batches", "elements", "minimum", "maximum", "outside", "non_finite", "root",
    )  # fmt: skip
    places = []
    for event in recording.some("targets", "no loss function of torch.nn.functional was called"):
        count = event["count"]
        mean = event["total"] / count if count else None
        variance = max(0.0, event["square"] / count - mean * mean) if count and mean is not None else None
        error = None
        if event["errors"] and variance:
            error = event["squared_error"] / event["errors"] / variance
        within, turns = _within(event["batch_means"], event["batch_variances"])
        places.append(
            TargetRecord(
                classes=tuple(event["classes"] or ()),
                predicted=tuple(event["predicted"] or ()),
                hits=tuple(event["hits"] or ()),
                late_classes=tuple(event["of_late"] or ()),
                mean=mean,
                std=None if variance is None else variance**0.5,
                first_output=tuple(event["first_output"]) if event["first_output"] else None,
                relative_error=error,
                within=within,
                turns=turns,
                source=source(event["line"]),
                criterion=source(event["criterion"]),
                **{name: event[name] for name in plain},
            )
        )
    return TargetLog(tuple(places))


def _within(means: list[float], variances: list[float]) -> tuple[float | None, float]:
    """Variance within batches over all variance, and the share of turning points in the sequence of batch means."""
    if len(means) < 6:
        return None, 0.0
    centre = sum(means) / len(means)
    between = sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)
    inner = sum(variances) / len(variances)
    steps = [later - earlier for earlier, later in itertools.pairwise(means)]
    turns = sum(a * b < 0 for a, b in itertools.pairwise(steps)) / max(1, len(steps) - 1)
    return (inner / (inner + between) if inner + between > 0 else None), turns
