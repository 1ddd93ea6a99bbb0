"""Statistics of the inputs in training and in evaluation, non-finite inputs, and values that stand for missing ones."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class Moments:
    """By channel (axis 1 of images, else the last axis): mean, deviation, deviation of the samples' own means, range.

    `others` counts the further tensors with which the model was called.
    """

    samples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    between: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    batches: int = 1
    source: Source | None = None
    others: int = 0

    @property
    def constant(self) -> bool:
        """Whether every sample has the same values."""
        return bool(self.low) and all(low == high for low, high in zip(self.low, self.high, strict=True))


@dataclass(frozen=True)
class InputMoments:
    """The first real-valued input of one root, in training and, where it was seen, in evaluation."""

    root: int
    dims: int
    training: Moments
    evaluation: Moments | None = None


@dataclass(frozen=True)
class NonFiniteInput:
    """NaN or infinity in an input whose output was not finite either; `columns` along the last axis (or channels)."""

    values: int
    of: int
    columns: tuple[int, ...]
    width: int
    batches: int
    step: int
    nan: bool = True
    source: Source | None = None


@dataclass(frozen=True)
class Sentinel:
    """A column whose most extreme value is repeated exactly, farther off than the others reach (`low` to `high`)."""

    column: int
    value: float
    share: float
    median: float
    low: float
    high: float
    root: int = 0
    source: Source | None = None


@dataclass(frozen=True)
class InputStatistics(Evidence):
    """All inputs."""

    inputs: tuple[InputMoments, ...] = ()
    non_finite: tuple[NonFiniteInput, ...] = ()
    sentinels: tuple[Sentinel, ...] = ()


@probe
def input_statistics(recording: Recording) -> InputStatistics:
    """Read them."""
    pairs: dict[tuple[object, ...], dict[str, Moments]] = {}
    for event in recording.of("input-moments"):
        key = (event["root"], event["path"], event["name"], event["dims"], len(event["mean"]))
        pairs.setdefault(key, {})[event["kind"]] = Moments(
            samples=event["samples"],
            batches=event["batches"],
            source=source(event["line"]),
            others=event.get("others", 0),
            **{name: tuple(event[name]) for name in ("mean", "std", "between", "low", "high")},
        )
    inputs = tuple(
        InputMoments(int(str(key[0])), int(str(key[3])), kinds["train"], kinds.get("eval"))
        for key, kinds in pairs.items()
        if "train" in kinds
    )
    non_finite = tuple(
        NonFiniteInput(
            values=event["values"],
            of=event["of"],
            columns=tuple(event["columns"]),
            width=event["width"],
            batches=event["batches"],
            step=event["step"],
            nan=event["nan"],
            source=source(event["line"]),
        )
        for event in recording.of("non-finite-input")
    )
    sentinels = tuple(
        Sentinel(root=event["root"], source=source(event["line"]), **column)
        for event in recording.of("sentinels")
        for column in event["columns"]
    )
    return InputStatistics(inputs, non_finite, sentinels)
