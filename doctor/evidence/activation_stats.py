"""Activation functions at work: what share of their units is dead or saturated."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class ActivationRecord:
    """One place where an activation function is applied, over the sampled training batches.

    A unit is one channel (axis 1 of `(batch, channels, ...)`, the last axis of `(batch, features)` or of
    `(batch, time, features)`). `dead_share` is the share of the units whose output was zero (relu family) for every
    sample of every sampled batch; `last_dead_share` the same over the last sampled batch only;
    `zero_share` that of single values. `saturated_share` is the share of single values within 1 % of a
    bound (sigmoid, tanh). `batches` is how many batches were seen.
    """

    function: str
    module: str
    source: Source | None
    units: int
    batches: int
    samples: int
    dead_share: float = 0.0
    last_dead_share: float = 0.0
    zero_share: float = 0.0
    saturated_share: float = 0.0
    input_mean: float = 0.0
    input_std: float = 0.0


@dataclass(frozen=True)
class ActivationStats(Evidence):
    """All places, in order of first use."""

    places: tuple[ActivationRecord, ...] = ()


@probe
def activation_stats(recording: Recording) -> ActivationStats:
    """Read the places of activation functions."""
    plain = (
        "function", "module", "units", "batches", "samples", "dead_share", "last_dead_share", "zero_share",
        "saturated_share", "input_mean", "input_std",
    )  # fmt: skip
    events = recording.some("units", "no activation function was seen on a sampled step")
    return ActivationStats(
        tuple(ActivationRecord(source=source(e["line"]), **{name: e[name] for name in plain}) for e in events)
    )
