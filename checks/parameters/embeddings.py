"""Embeddings whose rows start far larger than any layer behind them expects."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.module_tree import ModuleTree, ParameterRecord
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look
from doctor.trials.treatments.parameters import RescaleParameters


class LargeEmbeddingLimits(Limits):
    """Thresholds of PAR003 on embeddings."""

    deviation: float = 3.0  # PyTorch draws N(0, 1), language models 0.02
    width: int = 4


@look("PAR003")
def large_embeddings(tree: ModuleTree, limits: LargeEmbeddingLimits) -> Iterator[Finding]:
    """Embeddings drawn with a deviation above `deviation`.

    The product of two of them has a deviation of its square times the root of their width; where a norm layer follows,
    the size means nothing, and the trial shows no gain. Learnt tables are not meant: those that were loaded keep no
    line of an initialisation.
    """
    large = [p for p in tree.parameters if _is_table(p, limits) and p.std >= limits.deviation and p.initialised]
    if not large:
        return
    place = large[0].initialised
    yield Finding(
        severity=Severity.WARNING,
        message=f"{', '.join(p.name for p in large[:3])}: rows start with a deviation of {large[0].std:.3g}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=large[0].module or None
        ),
        measured={"deviation": Measure(value=max(p.std for p in large), threshold=limits.deviation)},
        remedy="draw embeddings small: nn.init.normal_(weight, std=0.1), or leave the default",
        treatment=RescaleParameters(factors=tuple((p.name, 1 / (p.std * math.sqrt(p.shape[1]))) for p in large)),
    )


def _is_table(parameter: ParameterRecord, limits: LargeEmbeddingLimits) -> bool:
    wide = len(parameter.shape) == 2 and parameter.shape[1] >= limits.width
    return wide and "Embedding" in parameter.module_kind and parameter.requires_grad and parameter.reached > 0
