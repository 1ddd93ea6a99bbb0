"""Whether the rows of a table stand in the order of their target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.table_sample import TableSample
from doctor.probes import probe

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


@dataclass(frozen=True)
class TargetOrder(Evidence):
    """By split: how often the target changes its class (or its half) from one row to the next, and how often it would
    in random order.
    """

    target: str
    splits: tuple[tuple[str, int, float], ...]


@probe
def target_order(sample: TableSample) -> TargetOrder:
    """Over the sample's rows in the order of the file."""
    if sample.target is None:
        raise Unavailable("no target was named (--target)")
    found = []
    for split in sample.splits:
        labels = sample.labels(split)
        if not sample.classifies:
            labels = labels[np.isfinite(labels)]
            labels = (labels > np.median(labels)).astype(int) if len(labels) else labels
        if len(labels) < 100:
            continue
        _, counts = np.unique(labels, return_counts=True)
        expected = (len(labels) - 1) * (1 - float(((counts / len(labels)) ** 2).sum()))
        if expected >= 20:
            found.append((split.name, int((labels[1:] != labels[:-1]).sum()), expected))
    return TargetOrder(sample.target, tuple(found))
