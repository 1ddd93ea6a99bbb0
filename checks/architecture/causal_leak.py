"""Models that read the token which they have to predict."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.metamorphic import Causality, Metamorphic
from doctor.findings import Finding, Measure, Related, Severity
from doctor.registry import Limits, check

from .experiments import location, related


class CausalLeakLimits(Limits):
    """Thresholds of ARC009."""

    min_effect: float = 0.01  # spreads of the output; float noise is below 1e-5


@check("ARC009", "causal-leak", Severity.ERROR, faq="training/architecture/incorrect")
def causal_leak(experiments: Metamorphic, limits: CausalLeakLimits) -> Iterator[Finding]:
    """A model that predicts the next position sees it: outputs depend on later inputs.

    ## What it measures
    Only where at least 99 % of the targets are the inputs one position later (and at most 90 % are the inputs themselves):
    after the run, in evaluation mode, the second half of the positions is replaced. Outputs of the first half must stay; it
    fires when one moves by `min_effect` of the outputs' spread. Two traces name the operation that lets the future in.
    ## Why it hurts
    The loss falls towards 0 by copying the answer, and generation, where no answer is there to copy, is noise.
    ## Example
    ```python
    scores = q @ k.transpose(-2, -1) / math.sqrt(d)
    weights = scores.softmax(-1)
    ```
    ## Use instead
    ```python
    scores = q @ k.transpose(-2, -1) / math.sqrt(d)
    scores = scores.masked_fill(~torch.tril(torch.ones(T, T)).bool(), float("-inf"))
    weights = scores.softmax(-1)
    ```
    ## When it is right
    Masked language models, taggers and encoders have other targets, and are silent. The encoder of a sequence-to-sequence
    model and the code of an autoencoder may read everything.
    ## References
    Vaswani et al. 2017, section 3.2.3; `torch.nn.Transformer.generate_square_subsequent_mask`.
    """
    for call in experiments.calls:
        found = call.causality
        if found is None or not found.leaks or found.effect < limits.min_effect:
            continue
        place, cause, remedy, others = _explained(found)
        yield Finding(
            message=f"the model predicts the next position of {found.field} and sees it: replacing the inputs from position "
            f"{found.cut} on changes outputs up to {found.reach} positions before, by {found.effect:.2g} of their "
            f"spread{cause}",
            location=location(place or call.forward_source or call.source, found.cause),
            severity=Severity.INFO if found.compresses else None,
            measured={
                "effect": Measure(value=found.effect, threshold=limits.min_effect, unit="spreads"),
                "reach": Measure(value=found.reach, threshold=0, unit="positions"),
            },
            remedy=remedy,
            demonstrated="replacing later inputs changes earlier outputs",
            follows_from=("scrambled-reshape",),
            related=others,
        )
        return


def _explained(found: Causality) -> tuple[Source | None, str, str, tuple[Related, ...]]:
    """Where to edit, the cause in words, the edit, and further places."""
    cause = found.cause
    called = cause.source if cause else None
    layer = cause.layer if cause else None
    mask = found.masks[0] if found.masks else None
    if layer is not None and layer.bidirectional:
        edit = "make it unidirectional: bidirectional=False"
        return layer.source or called, f": {layer.kind} is bidirectional", edit, related((called, "it is called here"))
    if layer is not None and layer.kind.startswith("Conv"):
        edit = "pad on the left only: F.pad(x, (dilation * (kernel_size - 1), 0)) before an unpadded convolution"
        made = layer.source or called
        return made, f": {layer.kind} reads both sides of each position", edit, related((called, "it is called here"))
    if mask is not None and found.reach < found.cut:
        edit = "mask everything above the diagonal: tril(diagonal=0), or triu(diagonal=1) for what is hidden"
        return mask, ": the triangular mask is off by some diagonals", edit, related((called, "attention runs here"))
    if found.hiding is not None:
        edit = "check what the mask hides: for masked_fill, True must stand where the key is later than the query"
        others = related((mask, "the mask is built here"), (called, "the scores are computed here"))
        return found.hiding, ": the mask in place hides something else", edit, others
    if layer is not None and layer.ordered:
        name = "mask" if layer.transformer else "attn_mask"
        edit = f"pass {name}=nn.Transformer.generate_square_subsequent_mask(length)"
        return (
            called,
            f": {layer.kind} is called without a causal mask that works",
            edit,
            related((mask, "a mask is here")),
        )
    edit = "hide later positions before the softmax (masked_fill with a triangular mask), or is_causal=True"
    return called, ": attention sees later positions" if cause else "", edit, related((mask, "a mask is built here"))
