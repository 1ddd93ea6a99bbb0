"""Terms of a loss that one of them drowns."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.loss_terms import LossTerms
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from .places import at, related

_CRITERIA = ("cross-entropy", "squared error", "smooth L1 error", "Huber error", "binary cross-entropy", "CTC loss")


class TermScaleLimits(Limits):
    """Thresholds of LOS014 on the factors of terms."""

    factor: float = 5e-4  # usual weights of auxiliary criteria are 0.01 to 1, 1e-3 for a critic's
    times: float = 2000.0  # the largest factor over the smallest


@look("LOS014")
def drowned_term(terms: LossTerms, limits: TermScaleLimits) -> Iterator[Finding]:
    """A criterion, averaged like the others, with a factor thousands of times smaller: it trains nothing.

    Penalties and divergences may be weighted so; they are no criteria that hold targets.
    """
    compared = [t for t in terms.terms if t.kind in _CRITERIA and t.reduction == "mean" and t.sign > 0 and t.scale > 0]
    if len(compared) < 2:
        return
    least, most = min(compared, key=lambda t: t.scale), max(compared, key=lambda t: t.scale)
    mixed = least.kind == most.kind or least.source == most.source  # mixup draws its factors anew for each batch
    if mixed or least.scale > limits.factor or most.scale < limits.times * least.scale:
        return
    yield Finding(
        severity=Severity.WARNING,
        message=f"the {least.kind} counts {least.scale:.3g} in the loss, the {most.kind} {most.scale:.3g}: the former "
        "trains next to nothing",
        location=at(terms.source or least.source),
        measured={"factor": Measure(value=least.scale, threshold=limits.factor)},
        remedy="weight the terms so that their gradients are of one order",
        demonstrated="both are averaged over the batch, and weighted by plain factors",
        related=related(least.source, "the term is computed here"),
    )
