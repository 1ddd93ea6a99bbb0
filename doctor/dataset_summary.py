"""What a report says of a data set as a whole: its splits, its classes, where values are missing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from doctor import probes
from doctor.evidence.data_source import DataSource
from doctor.evidence.samples import Samples
from doctor.evidence.table_profile import TableProfile

_CLASSES = 20  # of each split, the commonest
_COLUMNS = 20  # with missing values, most of them first


def summary(source: DataSource, found: probes.Found, samples: Samples | None) -> dict[str, Any]:
    """Numbers of samples and of classes by split, and shares of missing values by column; from what was gathered."""
    if samples is not None:
        return {"unit": samples.unit, "splits": _samples_by_split(samples), **_labels(samples)}
    if not source.tabular:
        return {}
    about = {"unit": "row", **source.tables.summary()}
    profile = found.get(TableProfile)
    return about | (_profiled(profile) if isinstance(profile, TableProfile) else {})


def _samples_by_split(samples: Samples) -> dict[str, int]:
    return {name: int((samples.split == number).sum()) for number, name in enumerate(samples.splits)}


def _labels(samples: Samples) -> dict[str, Any]:
    if not samples.classified:
        return {}
    by_split: dict[str, dict[str, int]] = {}
    for number, name in enumerate(samples.splits):
        counts = Counter(samples.label[(samples.split == number) & (samples.label >= 0)].tolist())
        by_split[name] = {samples.labels[label]: count for label, count in counts.most_common(_CLASSES)}
    return {"classes": by_split}


def _profiled(profile: TableProfile) -> dict[str, Any]:
    told: dict[str, Any] = {}
    target = profile.target
    if target is not None and 2 <= len(target.counts) <= 200 and target.column.kind != "float":
        told["classes"] = {split.split: dict(split.values[:_CLASSES]) for split in target.splits}
    gaps = {column.name: column.nulls / column.rows for column in profile.columns if column.nulls and column.rows}
    if gaps:
        ranked = sorted(gaps.items(), key=lambda pair: -pair[1])
        told["missing"] = {name: round(share, 6) for name, share in ranked[:_COLUMNS]}
    return told
