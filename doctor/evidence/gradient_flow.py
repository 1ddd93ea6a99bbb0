"""Gradients by parameter, at the sampled steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class ParameterGradient:
    """Gradient of one parameter over the sampled steps.

    `rms` is the root mean square of the gradient's elements (0.0 for all zero, None for no gradient) at each sampled
    step, `weight_rms` that of the parameter itself. `depth` is the order of first use in the forward pass (0 first).
    """

    name: str
    module: str
    module_kind: str
    depth: int
    shape: tuple[int, ...]
    rms: tuple[float | None, ...]
    weight_rms: tuple[float, ...]
    optimizer: int | None = None
    zero_share: tuple[float | None, ...] = ()

    def typical(self) -> float | None:
        """Median RMS over the sampled steps that had a gradient."""
        known = [value for value in self.rms if value is not None]
        return median(known) if known else None


@dataclass(frozen=True)
class NonFiniteOrigin:
    """The first operation of the step whose output was NaN or infinite while its inputs were finite.

    `phase` is `forward`, `backward` or `parameters` (a parameter was already non-finite when the step began);
    `inputs` describe the finite inputs (`min -inf..max 0`), `value` is `nan` or `inf`.
    For a backward operation `operation` is that of the forward line whose derivative it is, where known.
    """

    step: int
    phase: str
    operation: str
    value: str
    source: Source | None = None
    module: str = ""
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class GradientFlow(Evidence):
    """Per-parameter gradients in forward order, and where non-finite numbers came from.

    `steps` are the indices of the sampled optimizer steps.
    """

    steps: tuple[int, ...] = ()
    parameters: tuple[ParameterGradient, ...] = ()
    first_non_finite_step: int | None = None
    origin: NonFiniteOrigin | None = None

    def weights(self) -> Sequence[ParameterGradient]:
        """Matrices and kernels only (biases and norms left out), in forward order."""
        return tuple(sorted((p for p in self.parameters if len(p.shape) >= 2), key=lambda p: p.depth))


@probe
def gradient_flow(recording: Recording) -> GradientFlow:
    """Read gradients by parameter; depth follows the order of first use on the tape, else that of the optimizer."""
    samples = recording.some("gradients", "no gradient was seen at an optimizer step")
    order = _forward_order(recording)
    facts = {event["name"]: event for event in recording.of("parameter")}
    names = list(dict.fromkeys(name for sample in samples for name in sample["names"]))
    parameters = []
    for position, name in enumerate(names):
        own = [(sample, sample["names"].index(name)) for sample in samples if name in sample["names"]]
        fact = facts.get(name, {})
        parameters.append(
            ParameterGradient(
                name=name,
                module=fact.get("module", ""),
                module_kind=fact.get("module_kind", ""),
                depth=order.get(name, len(order) + position),
                shape=tuple(fact.get("shape", ())),
                rms=tuple(sample["gradient_rms"][at] for sample, at in own),
                weight_rms=tuple(sample["weight_rms"][at] for sample, at in own),
                optimizer=own[0][0]["optimizer"],
            )
        )
    non_finite = next((e["index"] for e in recording.of("step") if _non_finite(e["loss"], e["gradient_norm"])), None)
    origins = [_origin(event) for event in recording.of("tape") if event.get("origin")]
    return GradientFlow(
        steps=tuple(sample["step"] for sample in samples),
        parameters=tuple(parameters),
        first_non_finite_step=non_finite,
        origin=origins[0] if origins else None,
    )


def _forward_order(recording: Recording) -> dict[str, int]:
    order: dict[str, int] = {}
    for tape in recording.of("tape")[:1]:
        for op in tape["ops"]:
            for note in op["in"]:
                if note.get("parameter"):
                    order.setdefault(note["parameter"], len(order))
    return order


def _non_finite(*values: float | None) -> bool:
    return any(value is not None and not math.isfinite(value) for value in values)


def _origin(event: dict[str, Any]) -> NonFiniteOrigin:
    raw = event["origin"]
    return NonFiniteOrigin(
        step=event["step"],
        phase=raw.get("phase", "forward"),
        operation=raw.get("name", ""),
        value=raw["value"],
        source=source(raw.get("line")),
        module=raw.get("module", ""),
        inputs=tuple(raw.get("inputs", ())),
    )
