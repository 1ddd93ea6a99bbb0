"""Calls of loss functions, as the program made them (`torch.nn.functional` level, and hand-written ones)."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class LossCall:
    """One place where a loss is computed.

    `function` is the functional name (`cross_entropy`, `mse_loss`, `binary_cross_entropy_with_logits`, `ctc_loss` ...).
    Statistics of the input over its calls; `row_sums_to_one` when every row of the class axis is a distribution.
    """

    function: str
    source: Source | None
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    target_dtype: str
    calls: int = 1
    input_minimum: float | None = None
    input_maximum: float | None = None
    row_sums_to_one: bool = False
    reduction: str = "mean"
    module: str = ""
    in_training: bool = True


@dataclass(frozen=True)
class LossCalls(Evidence):
    """All places, in order of first use."""

    places: tuple[LossCall, ...] = ()


@probe
def loss_calls(recording: Recording) -> LossCalls:
    """Read the places where losses are computed."""
    plain = (
        "function", "target_dtype", "calls", "input_minimum", "input_maximum", "row_sums_to_one", "reduction", "module",
        "in_training",
    )  # fmt: skip
    events = recording.some("loss-call", "no loss function of torch.nn.functional was called")
    return LossCalls(
        tuple(
            LossCall(
                source=source(event["line"]),
                input_shape=tuple(event["input_shape"]),
                target_shape=tuple(event["target_shape"]),
                **{name: event[name] for name in plain},
            )
            for event in events
        )
    )
