"""Missing values in a table."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.table_profile import ColumnProfile, ColumnProfiles, TableProfile
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look

from ._rows import listed


class TableMissingLimits(Limits):
    """Thresholds of DAT001 on tables."""

    null_share: float = 0.05  # of a feature's values in a split


@look("DAT001")
def missing_in_table(profile: TableProfile, limits: TableMissingLimits) -> Iterator[Finding]:
    """Nulls and NaN in features and target."""
    for column in profile.columns:
        for split in column.splits:
            if column.role == "target" and 0 < split.nulls < split.rows:
                yield _nulls(column, split, Severity.ERROR, 0.0)
            elif column.role == "feature" and split.null_share > limits.null_share and split.nulls < split.rows:
                yield _nulls(column, split, Severity.WARNING, limits.null_share)


def _nulls(column: ColumnProfiles, split: ColumnProfile, severity: Severity, threshold: float) -> Finding:
    what = "targets" if column.role == "target" else "values"
    return Finding(
        severity=severity,
        message=f"{split.nulls:,} of {split.rows:,} {what} of {column.name} are missing in {split.split} "
        f"({split.null_share:.1%})",
        location=Location(column=column.name),
        measured={
            "nulls": Measure(value=split.nulls),
            "share": Measure(value=split.null_share, threshold=threshold),
        },
        rows=listed(split.missing) if split.missing else None,
        remedy="impute it with an indicator of what was missing, or drop these rows",
    )
