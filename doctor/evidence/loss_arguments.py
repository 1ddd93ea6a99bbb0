"""What loss functions are called with: kinds of prediction and target, class weights, lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class CtcFacts:
    """The arguments of a CTC loss over its measured calls.

    `empty` counts samples without labels;
    `infeasible` counts samples with fewer frames than labels (repeated labels need a blank between them);
    `longest_share` is the largest input length as a share of the frames given; `ratios` are, for the samples of padded
    batches, the share of the frames that the lengths name by the share of the model's input that is no padding.
    """

    blank: int = 0
    classes: int = 0
    frames: int = 0
    batches: int = 0
    samples: int = 0
    labels: int = 0
    blank_labels: int = 0
    empty: int = 0
    infeasible: int = 0
    too_long: int = 0
    tail_samples: int = 0
    full_batches: int = 0
    longest_share: float = 1.0
    wrong_count: bool = False
    zero_infinity: bool = False
    ratios: tuple[float, ...] = ()


@dataclass(frozen=True)
class LossPlace:
    """One user's line from which a loss function is called, in training or not.

    `rows` counts the measured predictions; of these `normalised` are log-probabilities (their logsumexp is 0) and
    `probabilities` sum to one. `log_sum` is the mean |logsumexp|. `outputs` are the sizes of the class axis seen.
    `counts` are the labels by class, or for binary targets the (positives, negatives) by column. `nominal`, for whole-number targets of
    a regression, is the held-out accuracy of a linear model that treats them as names of classes, that of one that
    treats them as numbers, and how many there are.
    """

    function: str
    source: Source | None
    input_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    target_dtype: str = "int64"
    training: bool = True
    inside: bool = False
    calls: int = 1
    rows: int = 0
    normalised: int = 0
    probabilities: int = 0
    positive_share: float = 0.0
    log_sum: float = 0.0
    outputs: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    target_minimum: float | None = None
    target_maximum: float | None = None
    whole_targets: bool = False
    target_rows: int = 0
    one_hot_rows: int = 0
    multi_hot_rows: int = 0
    target_probability_rows: int = 0
    weight: tuple[float, ...] | None = None
    pos_weight: tuple[float, ...] | None = None
    counts: tuple[Any, ...] | None = None
    nominal: tuple[float, float, int] | None = None
    options: Mapping[str, float | str | bool] = field(default_factory=dict)
    ctc: CtcFacts | None = None
    made: Source | None = None

    @property
    def chosen(self) -> Source | None:
        """Where this loss and its settings were chosen: the line that constructs the criterion, or that of the call."""
        return self.made or self.source


@dataclass(frozen=True)
class LossArguments(Evidence):
    """All places, in order of first use."""

    places: tuple[LossPlace, ...] = ()

    def training(self, *functions: str) -> tuple[LossPlace, ...]:
        """The places of these functions whose prediction needs a gradient."""
        return tuple(place for place in self.places if place.training and place.function in functions)


@probe
def loss_arguments(recording: Recording) -> LossArguments:
    """Read the arguments of the losses."""
    events = recording.some("loss-arguments", "no loss function of torch.nn.functional was called")
    return LossArguments(tuple(_place(event) for event in sorted(events, key=lambda event: event["step"])))


def _place(event: dict[str, Any]) -> LossPlace:
    plain = (
        "function", "target_dtype", "training", "inside", "calls", "rows", "minimum", "maximum", "target_minimum",
        "target_maximum", "whole_targets", "target_rows", "one_hot_rows", "multi_hot_rows", "target_probability_rows",
        "options",
    )  # fmt: skip
    ctc = event.get("ctc")
    known = {name: ctc[name] for name in CtcFacts.__dataclass_fields__ if name in ctc} if ctc else {}
    return LossPlace(
        source=source(event["line"]),
        made=source(event.get("made")),
        input_shape=tuple(event["input_shape"]),
        target_shape=tuple(event["target_shape"]),
        normalised=event["normalised_rows"],
        probabilities=event["probability_rows"],
        positive_share=event["positive"] / max(1, event["elements"]),
        log_sum=event["log_sum"] / max(1, event["rows"]),
        outputs=tuple(event["outputs"]),
        weight=_floats(event["weight"]),
        pos_weight=_floats(event["pos_weight"]),
        counts=tuple(event["counts"]) if event["counts"] else None,
        nominal=tuple(event["nominal"]) if event["nominal"] else None,
        ctc=CtcFacts(**{**known, "ratios": tuple(known["ratios"])}) if ctc else None,
        **{name: event[name] for name in plain},
    )


def _floats(values: list[float] | None) -> tuple[float, ...] | None:
    return tuple(values) if values is not None else None
