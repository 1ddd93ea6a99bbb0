"""One loss, two backwards."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.forward_log import ForwardLog
from doctor.evidence.program_run import ProgramRun
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check


class TwiceLimits(Limits):
    """Thresholds of GRD007."""

    min_steps: int = 2  # sampled steps; one alone may be a measurement


@check(
    "GRD007",
    "gradient-counted-twice",
    Severity.ERROR,
    faq="tuning/gradients/duplicated",
    faults=("duplicate-loss-term", "gradient-counted-twice"),
)
def counted_twice(log: ForwardLog, run: ProgramRun | None, limits: TwiceLimits) -> Iterator[Finding]:
    """Backward is called on a loss, and again on the same loss or on a sum that contains it.

    ## What it measures
    The graphs of the backwards between two steps: whether one contains the node of a loss on which backward was
    already called, while the gradients of that call are still in place.
    ## Why it hurts
    That loss counts twice: its gradient is added to itself.
    ## Example
    ```python
    loss_a.backward(retain_graph=True)
    (loss_a + loss_b).backward()
    ```
    ## Use instead
    ```python
    (loss_a + loss_b).backward()
    ```
    ## When it is right
    Two losses that share a graph but not each other, `create_graph=True` for gradients of gradients, and gradients
    that are cleared between the two (to measure them) are silent.
    ## References
    `torch.Tensor.backward`: gradients accumulate in the leaves.
    """
    crash = run.crash if run else None
    failed = crash is not None and "backward through the graph a second time" in crash.message
    if not log.twice or (len({found.step for found in log.twice}) < limits.min_steps and not failed):
        return
    pair = log.twice[0]
    place = pair.first if not pair.same and pair.first else pair.second or pair.first
    other = pair.second if place is pair.first else pair.first
    what = "the same loss" if pair.same else "a sum that contains a loss on which it was called before"
    steps = len({found.step for found in log.twice})
    yield Finding(
        message=f"backward is called on {what}, before any step, at {steps} of the sampled steps",
        location=Location(path=place.path, line=place.line) if place else Location(),
        measured={"steps": Measure(value=steps, threshold=limits.min_steps)},
        remedy="call backward once, on the sum of the losses",
        related=(Related(location=Location(path=other.path, line=other.line), message="the other backward"),)
        if other
        else (),
        demonstrated=f"the loss was gone through twice before a step, at {steps} steps",
    )
