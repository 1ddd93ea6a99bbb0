"""Inputs that change nothing."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.gradient_flow import GradientFlow
from doctor.evidence.metamorphic import Metamorphic
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .experiments import location


class IgnoredInputLimits(Limits):
    """Thresholds of ARC019."""

    max_share: float = 0.9  # of the features: when nearly all are ignored, something else is wrong
    fading: float = 1e-8  # gradient of the first weights over that of the last


def _fades(flow: GradientFlow, limits: IgnoredInputLimits) -> bool:
    known = [size for weight in flow.weights() if (size := weight.typical()) is not None]
    return len(known) > 2 and 0.0 < known[0] < limits.fading * known[-1]


@check("ARC019", "ignored-input", Severity.WARNING, faq="training/architecture/missing", faults=("ignored-input",))
def ignored_input(experiments: Metamorphic, flow: GradientFlow | None, limits: IgnoredInputLimits) -> Iterator[Finding]:
    """An input, or a feature of it, has no influence on the outputs.

    ## What it measures
    After the run, with the trained weights, every tensor that the model is called with is dealt out anew among the samples,
    in training mode under two seeds; an input whose values change no output at all (bit by bit) is ignored, provided that
    another one does. For the first floating input, features without any gradient are tested the same way.
    ## Why it hurts
    Information that is loaded, passed and meant to be used never reaches the prediction.
    ## Example
    ```python
    def forward(self, x, context):
        return self.head(self.body(x))
    ```
    ## Use instead
    ```python
    def forward(self, x, context):
        return self.head(torch.cat([self.body(x), context], 1))
    ```
    ## When it is right
    Constant inputs are not tested. Lengths, indices and masks are often passed for the caller's convenience: info only.
    ## References
    Karpathy, "A Recipe for Training Neural Networks": use backprop to chart dependencies.
    """
    if flow is not None and _fades(flow, limits):
        return  # nothing of any input arrives: GRD001 tells why
    for call in experiments.calls:
        unused = [field for field in call.fields if not field.used]
        if unused and any(field.used and field.moves for field in call.fields):
            plain = [field for field in unused if not field.mask and len(field.shape) > 1]
            names = ", ".join(field.name for field in plain or unused)
            yield Finding(
                message=f"{names} is passed to {call.kind} and changes none of its outputs",
                location=location(call.forward_source or call.source),
                severity=None if plain else Severity.INFO,
                measured={"ignored_inputs": Measure(value=len(unused), threshold=0)},
                remedy=f"use {names} in the forward pass, or do not pass it",
                demonstrated="other values of it leave every output as it is",
            )
            return
        found = call.features
        if found is not None and found.count <= limits.max_share * found.size:
            columns = ", ".join(map(str, found.ignored[:6])) + (" ..." if found.count > 6 else "")
            place = (found.cause.source if found.cause else None) or call.forward_source or call.source
            yield Finding(
                message=f"{found.count} of {found.size} features of {found.field} ({columns}) change no output",
                location=location(place, found.cause),
                measured={"ignored_features": Measure(value=found.count, threshold=0, unit="features")},
                remedy="check which features are sliced off before the first layer",
                demonstrated="their gradient is exactly zero, and other values leave every output as it is",
            )
            return
