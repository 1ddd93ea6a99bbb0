"""Transformers that get their full learning rate at the first step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import Warmup

_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop")
_ATTENTION = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer")


class WarmupLimits(Limits):
    """Thresholds of OPT015."""

    min_steps: int = 24
    least_rate: float = 3e-4  # below this rate the first steps of Adam do no harm to a transformer
    rise: float = 1.05  # highest loss of the first third over the first loss
    well: float = 0.3  # share of its start by which the loss of a program falls that needs no help
    stalled: float = 0.01  # share of its start by which the loss has fallen at the end; slow language models exceed it
    stalled_steps: int = 40
    share: float = 0.3  # of the steps that the trial warms up


@check("OPT015", "missing-warmup", Severity.WARNING, faq="tuning/optimizer settings/missing", faults=("lr-too-high",))
def missing_warmup(
    log: OptimizerLog, trace: TrainingTrace, tree: ModuleTree, limits: WarmupLimits
) -> Iterator[Finding]:
    """A transformer under Adam leaps at its first steps and does not recover: its rate has no warm-up.

    ## What it measures
    For models with attention and layer norms, stepped by Adam or its kin: whether the first rate is the largest one and
    at least `least_rate`, the highest loss of the first third over the first, and the progress at the end. Suspicious
    is a rise by `rise`, or a loss that stalls. The trial warms up over `share` of the steps.
    ## Why it hurts
    Adam's first steps have full length in noisy directions; behind a sum and a layer norm (post-norm) the gradient at
    the output is large, and attention saturates before anything is learnt.
    ## Example
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 1000))
    ```
    ## When it is right
    Pre-norm transformers and small ones train without; a loss that falls from the start is silent. A rate that is too high
    altogether is no better after a warm-up, and the trial says so.
    ## References
    Xiong et al., "On Layer Normalization in the Transformer Architecture" (2020).
    """
    if not _is_transformer(tree):
        return
    for optimizer in log.optimizers:
        own, losses = trace.of(optimizer.index), trace.losses(optimizer.index)
        if optimizer.kind not in _ADAPTIVE or len(losses) < limits.min_steps or len(log.optimizers) > 1:
            continue
        rates = [step.learning_rate for step in own]
        if rates[0] < 0.5 * max(rates) or rates[0] < limits.least_rate:
            continue
        finite = [loss for loss in losses if math.isfinite(loss)]
        third = finite[1 : len(losses) // 3]
        first = fmean(finite[:2]) if len(finite) > 2 else math.nan
        last = fmean(losses[-len(losses) // 3 :])
        if not third or first <= 0:
            continue
        peak = max(third)
        stalls = len(losses) >= limits.stalled_steps and not last < (1 - limits.stalled) * first
        if (peak < limits.rise * first and not stalls) or last < (1 - limits.well) * first:
            continue
        place = optimizer.source_of("warmup_steps", "warmup_ratio", "lr")
        yield Finding(
            message=f"a transformer starts at the full rate {rates[0]:.3g} of {optimizer.kind}: its loss goes from "
            f"{first:.4g} to {peak:.4g} in the first steps and ends at {last:.4g}",
            location=Location(path=place.path, line=place.line) if place else Location(),
            measured={
                "peak_over_first": Measure(value=peak / first, threshold=limits.rise),
                "last_loss": Measure(value=last),
            },
            remedy="let the rate rise linearly from 0 over the first few hundred steps, or put the norms first (pre-norm)",
            treatment=Warmup(steps=max(8, round(limits.share * len(losses))), optimizer=optimizer.index),
        )


def _is_transformer(tree: ModuleTree) -> bool:
    norms = sum(module.kind in ("LayerNorm", "RMSNorm") for module in tree.modules)
    attends = any(
        module.kind in _ATTENTION or "attention" in module.kind.lower() or "attn" in module.path.lower()
        for module in tree.modules
    )
    return norms >= 2 and attends
