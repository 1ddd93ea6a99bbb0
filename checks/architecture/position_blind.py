"""Sequence models that know no order."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.metamorphic import Metamorphic
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .experiments import location, related


class PositionBlindLimits(Limits):
    """Thresholds of ARC017."""

    max_effect: float = 2e-6  # spreads of the output: float noise; freshly initialised positions move 1e-4 and more


@check("ARC017", "position-blind", Severity.WARNING, faq="training/architecture/missing")
def position_blind(experiments: Metamorphic, limits: PositionBlindLimits) -> Iterator[Finding]:
    """Attention over tokens whose order makes no difference to the outputs.

    ## What it measures
    After the run, in evaluation mode, the token ids of every sample are put into another order. Outputs for each position
    that merely follow their tokens (in a causal model: a last output that stays), up to `max_effect` of their spread,
    show that no position is encoded. Asked only of models that attend over token ids and whose positions do interact.
    ## Why it hurts
    Attention is a sum over a set: without positions "dog bites man" and "man bites dog" are one input.
    ## Example
    ```python
    x = self.embed(ids)
    ```
    ## Use instead
    ```python
    x = self.embed(ids) + self.positions(torch.arange(ids.shape[1]))
    ```
    ## When it is right
    Sets (baskets, columns of a table, point clouds) have no order: pooled outputs are told as info only. Deep causal models
    infer positions from the mask, and are silent because their outputs do move.
    ## References
    Vaswani et al. 2017, section 3.5; Haviv et al. 2022, "Transformer Language Models without Positional Encodings".
    """
    for call in experiments.calls:
        found = call.order
        if found is None or not found.mixes or found.effect > limits.max_effect:
            continue
        told = found.per_position or found.causal
        yield Finding(
            message=f"putting the {found.length} positions of {found.field} into another order changes the outputs by "
            f"{found.effect:.1e} of their spread: the model attends over tokens and knows no positions",
            location=location((found.embedding.source if found.embedding else None) or call.source, found.embedding),
            severity=None if told else Severity.INFO,
            measured={"effect": Measure(value=found.effect, threshold=limits.max_effect, unit="spreads")},
            remedy="add position embeddings to the token embeddings",
            demonstrated="reordering the tokens leaves the outputs as they are",
            related=related((call.source, "the model is called here")),
        )
        return
