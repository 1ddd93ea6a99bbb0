"""Attention layers in a row, without a way around them."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.attention_skips import AttentionSkips
from doctor.evidence.call_log import CallLog
from doctor.findings import Finding, Location, Measure
from doctor.registry import Limits, look


class AttentionSkipLimits(Limits):
    """Thresholds of ARC015 on attention."""

    layers: int = 2  # in a row; a single attention may be a pooling
    share: float = 0.5  # of them without a skip


@look("ARC015")
def attention_without_skip(
    skips: AttentionSkips, calls: CallLog | None, limits: AttentionSkipLimits
) -> Iterator[Finding]:
    """Attentions by products of queries and keys, one upon the other, whose result is never added to what they read.

    Attention alone mixes all positions to their average: its rank falls doubly exponentially with depth (Dong et al.,
    "Attention is not all you need", 2021). Graph attention, whose scores are sums, is left alone.
    """
    bare = [attention for attention in skips.row if not attention.skipped]
    if len(bare) < limits.layers or len(bare) < limits.share * len(skips.row):
        return
    if calls is not None and any(calls.in_library(attention.module, attention.root) for attention in bare):
        return
    place = bare[0].source
    yield Finding(
        message=f"{len(bare)} of {len(skips.row)} attention layers in a row have no skip connection: what a position holds "
        "itself is lost in the mixture",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=bare[0].module or None
        ),
        measured={"layers_without_skip": Measure(value=len(bare), threshold=limits.layers)},
        remedy="add the input to the output of the attention: x = x + attention(norm(x))",
        demonstrated=f"on the taped step, the results of {len(bare)} attentions meet no sum with their input",
    )
