"""Decisions that a trace has made once and for all."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_run import Outcome, ParityRun
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

from ._told import apart, measures

_ELSEWHERE = ("swapped-inputs", "swapped-outputs", "missing-preprocessing", "double-preprocessing", "train-mode-export")


class BranchLimits(Limits):
    """Thresholds of IOC006."""

    clear: float = 10.0  # times the tolerance from which a difference on a made-up input is an error


@check(
    "IOC006",
    "frozen-branch",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("frozen-branch", "output-mismatch"),
)
def frozen_branch(parity: ParityRun, limits: BranchLimits) -> Iterator[Finding]:
    """The reference decides by its data or lengths, and the artifact has one outcome written in.

    ## What it measures
    Where the reference reads numbers out of tensors (`if x.mean() > 0`, `.item()`), inputs are looked for that make it
    decide otherwise than on the sample: repeated samples, other signs, sizes and offsets. The artifact must follow on
    each. Free dimensions other than the batch are run at half their size and a little longer.
    ## Why it hurts
    Tracing records what happened once. Inputs that go the other way get the wrong computation, without an error.
    ## Example
    ```python
    def forward(self, x):
        return self.large(x) if x.abs().max() > 3 else self.small(x)

    torch.jit.trace(model, x)
    ```
    ## Use instead
    ```python
    def forward(self, x):
        return torch.where(x.abs().amax() > 3, self.large(x), self.small(x))
    ```
    ## When it is right
    Scripted modules and torch.cond keep both branches. Reading numbers without deciding by them is no fault: only
    outputs are compared.
    ## References
    pytorch.org/docs: torch.jit.trace, "Tracing only correctly records functions which are not data dependent"
    """
    run = parity.run
    if parity.cause is not None and parity.cause.kind in _ELSEWHERE:
        return
    failing = [outcome for outcome in run.branches if _differs(outcome)]
    agreeing = [outcome for outcome in run.branches if outcome.within]
    if failing and (parity.faithful or agreeing):
        first = max(failing, key=_size)
        clear = first.error is not None or _size(first) > limits.clear * run.tolerance.rms
        yield Finding(
            message=f"the artifact does not follow the reference's decision: for {first.label}, "
            f"{first.error or apart(first)} ({len(failing)} of {len(failing) + len(agreeing)} inputs that turn it)",
            location=Location(path=first.path, line=first.line),
            measured={
                **measures(first, run),
                "inputs_that_turn_it": Measure(value=len(failing) + len(agreeing)),
                "followed": Measure(value=len(agreeing)),
            },
            severity=Severity.ERROR if clear else Severity.INFO,
            demonstrated="both were run on inputs on which the reference decides otherwise",
            remedy="write the branch with torch.where or torch.cond, or script the module instead of tracing it",
        )
        return
    lengths = [outcome for outcome in run.lengths if _differs(outcome)]
    if lengths and parity.faithful:
        first = lengths[0]
        # A program of torch.export states by its guards what it does not take; others claim that the dimension is free.
        stated = first.error is not None and "Guard failed" in first.error
        certain = (first.declared and not stated) or first.error is None
        yield Finding(
            message=f"at {first.dimension} = {first.size}, {first.error or apart(first)}",
            measured={"size": Measure(value=first.size), **(measures(first, run) if not first.error else {})},
            severity=Severity.ERROR if certain else Severity.INFO,
            demonstrated="both were run at another length" if certain else None,
            remedy="take sizes from x.shape within the graph, and export with that dimension free",
        )


def _differs(outcome: Outcome) -> bool:
    return not outcome.reference_fails and (outcome.error is not None or outcome.within is False)


def _size(outcome: Outcome) -> float:
    worst = outcome.worst
    return worst.rms if worst is not None else 1.0
