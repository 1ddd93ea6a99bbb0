"""The batches that the program trained on: inputs, targets, order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class InputStats:
    """Statistics of the first floating-point tensor that a root module was called with, over the training batches.

    `mean` and `std` have one value a feature: the last axis of `(batch, features)`, the channel axis 1 of images
    `(batch, channels, ...)`, the last axis of `(batch, time, features)`; `axis` says which, `shape` is that of one
    batch. `minimum`/`maximum` are over all; `first_layer_input` tells whether it feeds a linear or convolutional layer
    before any normalisation layer.
    """

    root: int
    name: str
    shape: tuple[int, ...]
    axis: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: float
    maximum: float
    batches: int
    samples: int
    normalised_first: bool = False
    first_layer: str = ""
    first_layer_source: Source | None = None
    dtype: str = "float32"
    source: Source | None = None


@dataclass(frozen=True)
class TargetStats:
    """The target of the loss over the training batches, as seen by the loss function.

    `labels` are the class ids batch by batch (integer targets with one id a sample only; at most 4096 in all).
    For real-valued targets `mean`, `std`, `minimum`, `maximum` are over all batches.
    """

    shape: tuple[int, ...]
    dtype: str
    labels: tuple[tuple[int, ...], ...] = ()
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    source: Source | None = None


@dataclass(frozen=True)
class LoaderRecord:
    """One DataLoader. `shuffled` is true for a random sampler, None for a custom one; `used_in_training` when its
    batches came before a backward.
    """

    index: int
    dataset: str
    length: int | None
    batch_size: int | None
    shuffled: bool | None
    workers: int = 0
    source: Source | None = None
    used_in_training: bool = False
    batches: int = 0


@dataclass(frozen=True)
class BatchLog(Evidence):
    """Inputs, targets and loaders of the training forwards. `source` is the training forward's line."""

    inputs: tuple[InputStats, ...] = ()
    targets: tuple[TargetStats, ...] = ()
    loaders: tuple[LoaderRecord, ...] = ()
    source: Source | None = None


@probe
def batch_log(recording: Recording) -> BatchLog:
    """Read inputs, targets and loaders."""
    inputs = tuple(
        InputStats(
            root=event["root"],
            name=event["name"],
            shape=tuple(event["shape"]),
            axis=event["axis"],
            mean=tuple(event["mean"]),
            std=tuple(event["std"]),
            minimum=event["minimum"],
            maximum=event["maximum"],
            batches=event["batches"],
            samples=event["samples"],
            normalised_first=event["normalised_first"],
            first_layer=event["first_layer"],
            first_layer_source=source(event["first_layer_line"]),
            dtype=event["dtype"],
            source=source(event["line"]),
        )
        for event in recording.of("input")
        if event["batches"]
    )
    targets = tuple(_target(event) for event in recording.of("loss-call") if event["in_training"])
    loaders = tuple(
        LoaderRecord(
            index=event["index"],
            dataset=event["dataset"],
            length=event["length"],
            batch_size=event["batch_size"],
            shuffled=event["shuffled"],
            workers=event["workers"],
            source=source(event["source"]),
            used_in_training=event["used_in_training"],
            batches=event["batches"],
        )
        for event in recording.of("loader")
    )
    if not (inputs or targets or loaders):
        raise Unavailable("no training batch was seen")
    return BatchLog(inputs, targets, loaders, source((recording.end.get("sources") or {}).get("forward")))


def _target(event: dict[str, Any]) -> TargetStats:
    number = event["target_number"]
    mean = event["target_sum"] / number if number else None
    std = None
    if number and mean is not None:
        std = math.sqrt(max(0.0, event["target_square"] / number - mean * mean))
    return TargetStats(
        shape=tuple(event["target_shape"]),
        dtype=event["target_dtype"],
        labels=tuple(tuple(batch) for batch in event["labels"]),
        mean=mean,
        std=std,
        minimum=event["target_minimum"],
        maximum=event["target_maximum"],
        source=source(event["line"]),
    )
