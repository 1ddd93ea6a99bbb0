"""Variational autoencoders whose two terms are reduced over different elements."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.loss_terms import LossTerms, Term
from doctor.evidence.metamorphic import Metamorphic
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from .places import at

_RECONSTRUCTIONS = ("squared error", "smooth L1 error", "Huber error", "binary cross-entropy", "abs")


class PosteriorLimits(Limits):
    """Thresholds of LOS010 on variational autoencoders."""

    weight: float = 20.0  # of the divergence, against a reconstruction summed over the sample; beta-VAEs have 4 to 10
    change: float = 0.1  # of the output, in spreads, when the inputs are dealt out anew: it hardly follows them


@look("LOS010")
def collapsed_posterior(terms: LossTerms, experiments: Metamorphic, limits: PosteriorLimits) -> Iterator[Finding]:
    """A reconstruction averaged over all elements, and a divergence that is summed over the latent: its weight is as many
    times too large as a sample has elements, and the code says nothing about the sample (posterior collapse).

    The evidence lower bound sums both over the sample (Kingma and Welling, "Auto-Encoding Variational Bayes", 2014); the
    weight is told as the beta of Higgins et al., "beta-VAE" (2017).
    """
    reconstruction = next((term for term in terms.terms if term.kind in _RECONSTRUCTIONS and term.sign > 0), None)
    divergence = next((term for term in terms.terms if term.kind == "exp" and term.sign > 0), None)
    if reconstruction is None or divergence is None or not any(t.kind == "square" for t in terms.terms):
        return
    if reconstruction.reduction != "mean":
        return
    weight = 2 * _each(divergence) / _each(reconstruction)
    moved = [field.change for call in experiments.calls for field in call.fields if field.dtype.startswith("float")]
    if weight < limits.weight or not moved or max(moved) > limits.change:
        return
    yield Finding(
        severity=Severity.WARNING,
        message=f"the reconstruction is averaged over {reconstruction.elements} elements, the divergence is summed over the "
        f"latent: it weighs {weight:.3g} times what the bound gives it, and outputs hardly follow the inputs",
        location=at(reconstruction.source),
        measured={
            "weight": Measure(value=weight, threshold=limits.weight),
            "change_of_output": Measure(value=max(moved), threshold=limits.change, unit="spreads"),
        },
        remedy="sum the reconstruction over the sample, and average both terms over the batch",
        demonstrated=f"other inputs move the output by {max(moved):.2g} of its spread: the posterior has collapsed",
    )


def _each(term: Term) -> float:
    """By what one element counts in the loss."""
    return term.scale / (term.elements if term.reduction == "mean" else 1)
