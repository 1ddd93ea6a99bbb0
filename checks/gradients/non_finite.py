"""NaN and infinite numbers, and the operation that made the first of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.gradient_flow import GradientFlow, NonFiniteOrigin
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import check

_CAUSES = {
    "log": ("the logarithm of 0 or of a negative number", "clamp its argument: x.clamp_min(1e-8).log()"),
    "div": ("a division by 0", "add a small number to the divisor"),
    "reciprocal": ("a division by 0", "add a small number to the divisor"),
    "_softmax": ("a softmax over a row that is all -inf", "leave at least one position unmasked, or mask with -1e9"),
    "_log_softmax": ("a log-softmax over a row that is all -inf", "leave at least one position unmasked"),
    "masked_fill": ("a mask of -inf", "leave at least one position of each row unmasked"),
    "exp": ("an overflow of exp", "subtract the maximum, or use logsumexp / log_softmax"),
    "sqrt": ("the square root of a negative number", "add a small number under the root"),
    "pow": ("a power of 0 or of a negative number", "add a small number to the base"),
    "std": ("the deviation of a single value", "give at least two values, or use unbiased=False"),
    "norm": ("a norm", "add a small number under the root"),
    "linalg_vector_norm": ("the derivative of a norm at 0", "add a small number under the root"),
}


@check(
    "GRD003",
    "nan-gradients",
    Severity.ERROR,
    faq="tuning/gradients/incorrect",
    faults=("nan-gradients", "nan-params"),
    nature=Nature.CONDITION,
)
def nan_gradients(flow: GradientFlow | None, trace: TrainingTrace) -> Iterator[Finding]:
    """The loss or a gradient becomes NaN or infinite.

    ## What it measures
    Loss and gradient norm at every step. When one is not finite, the program is run again up to that step with the range
    of every tensor noted: the first operation whose output is NaN or infinite though its inputs are finite is the origin.
    ## Why it hurts
    One NaN gradient makes every parameter NaN at the next step.
    ## Example
    ```python
    entropy = -(p * p.log()).sum(1)
    ```
    ## Use instead
    ```python
    entropy = -(p * p.clamp_min(1e-8).log()).sum(1)
    ```
    ## When it is right
    Minus infinity in a mask is no fault as long as a position is left. Steps that a gradient scaler skips are not steps.
    ## References
    `torch.autograd.detect_anomaly`, which names the backward node only, at twice the run time.
    """
    step = trace.first_non_finite_step()
    if step is None:
        return
    origin = flow.origin if flow else None
    losses = [loss for loss in trace.losses(step.optimizer)[: step.index + 1] if math.isfinite(loss)]
    diverged = len(losses) > 1 and max(losses) > 20 * abs(losses[0]) + 1
    if origin is None:
        why, cure = "its origin was not found", "run the program with torch.autograd.set_detect_anomaly(True)"
    else:
        why, cure = _explained(origin)
    place = origin.source if origin and origin.source else trace.loss_source
    yield Finding(
        message=f"step {step.index}: loss {_text(step.loss)}, gradient norm {_text(step.gradient_norm)}; {why}"
        + ("; the loss had grown by orders before" if diverged else ""),
        location=Location(
            path=place.path if place else None,
            line=place.line if place else None,
            module=(origin.module or None) if origin else None,
        ),
        measured={"first_non_finite_step": Measure(value=step.index)},
        remedy="lower the learning rate or clip gradients: the numbers overflowed" if diverged else cure,
        demonstrated=None if diverged else "found again in a second run with every tensor's range noted",
    )


def _explained(origin: NonFiniteOrigin) -> tuple[str, str]:
    what, cure = _CAUSES.get(origin.operation, (f"the operation {origin.operation}", "keep its arguments in range"))
    if origin.phase == "backward":
        what = f"the derivative of {origin.operation}"
        cure = "keep its argument away from the point where the derivative is infinite (add 1e-8)"
    inputs = f" of inputs {', '.join(origin.inputs)}" if origin.inputs else ""
    return f"the first {origin.value} comes from {what}{inputs}", cure


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
