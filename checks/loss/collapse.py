"""Representations that became the same for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.loss_terms import LossTerms
from doctor.evidence.output_spread import OutputSpread
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from .places import at


class CollapseLimits(Limits):
    """Thresholds of LOS013 on collapsed outputs."""

    spread: float = 0.03  # deviation between samples over the outputs' size
    fall: float = 0.1  # of that spread at the start
    loss: float = 0.03  # of the first loss


@look("LOS013")
def collapsed_outputs(
    outputs: OutputSpread, trace: TrainingTrace, terms: LossTerms | None, limits: CollapseLimits
) -> Iterator[Finding]:
    """The loss is all but zero, and the model gives the same for every sample: nothing in it pushes samples apart.

    What pulls representations together (pairs of one class, two views of an image) is met best by a constant; a term for
    pairs that differ, a margin, a stopped gradient or a decorrelation must forbid it (Hadsell et al. 2006; Bardes et al.,
    "VICReg", 2022, section 1).
    """
    optimizers = trace.optimizers
    if len(optimizers) != 1:
        return
    first, last = trace.loss_level(optimizers[0], True), trace.loss_level(optimizers[0], False)
    for spread in outputs.spreads:
        if spread.last > limits.spread or spread.last > limits.fall * spread.first or spread.step < 20:
            continue
        if first is None or last is None or not 0 <= last < limits.loss * first:
            continue
        yield Finding(
            severity=Severity.ERROR,
            message=f"the loss fell to {last / first:.1%} of its start while the outputs became the same for every sample: "
            f"they differ by {spread.last:.2g} of their size ({spread.first:.2g} at the start)",
            location=at(terms.source if terms and terms.source else trace.loss_source),
            measured={"spread": Measure(value=spread.last, threshold=limits.spread)},
            remedy="add the term that pushes different samples apart (negative pairs beyond a margin, a contrast within the "
            "batch, a variance term)",
            demonstrated="the spread of the outputs between samples, first and last",
            faults=("missing-loss-term", "wrong-loss"),
        )
        return
