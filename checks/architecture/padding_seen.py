"""Attention that looks at padding."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.metamorphic import Metamorphic
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .experiments import location, related


class PaddingLimits(Limits):
    """Thresholds of ARC010."""

    min_effect: float = 0.02  # spreads of the output: convolutions at the edge of the padding move it by less


@check("ARC010", "missing-attention-mask", Severity.WARNING, faq="training/architecture/missing")
def missing_attention_mask(experiments: Metamorphic, limits: PaddingLimits) -> Iterator[Finding]:
    """The outputs of a sample depend on how much padding stands behind it.

    ## What it measures
    Padding is a value that ends rows in runs of different lengths and stands nowhere else. After the run, in evaluation
    mode, the shorter half of the samples is fed with all its padding and with less; outputs at real positions (or the
    pooled output) must stay. It fires when they move by `min_effect` of their spread (median) and attention scores of
    padded positions are not masked. Pooling over padding alone, as a mean or a last state, is told as info.
    ## Why it hurts
    A sample's prediction depends on the longest sample of its batch, and attention is spent on positions without content.
    ## Example
    ```python
    hidden = self.encoder(self.embed(ids))
    ```
    ## Use instead
    ```python
    hidden = self.encoder(self.embed(ids), src_key_padding_mask=ids == pad_id)
    ```
    ## When it is right
    Causal models with padding on the right never see it. Masked attention, packed sequences and maxima are silent.
    ## References
    `torch.nn.MultiheadAttention`: key_padding_mask; Hugging Face: "padding and truncation".
    """
    for call in experiments.calls:
        found = call.padding
        if found is None or found.effect < limits.min_effect:
            continue
        attends = found.unmasked > 0 and found.cause is not None
        operation = found.cause if attends else found.pooling
        what = "the output changes" if found.pooled else "outputs at real positions change"
        passed = f"; {found.mask_passed[0]} is passed and does not prevent it" if found.mask_passed else ""
        done = f"up to {found.removed} of {found.length} positions of padding before {found.field} hold other ids"
        if not found.leading:
            done = f"{found.removed} of {found.length} positions of pure padding are cut off {found.field}"
        yield Finding(
            message=f"{what} by {found.effect:.2g} of the spread when {done}"
            + (f": {found.unmasked} of {found.attention} attentions see padding{passed}" if attends else ""),
            location=location((operation.source if operation else None) or call.source, operation),
            severity=None if attends else Severity.INFO,
            measured={
                "effect": Measure(value=found.effect, threshold=limits.min_effect, unit="spreads"),
                "unmasked_attentions": Measure(value=found.unmasked, threshold=0),
            },
            remedy="mask padded positions in attention (key_padding_mask=ids == pad_id, attention_mask) and in pooling",
            demonstrated=f"{'changing' if found.leading else 'cutting off'} padding changes the output",
            related=related((call.source, "the model is called here")),
        )
        return
