"""Missing values in a table: gaps, and values that stand for one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.missing_codes import MissingCode, MissingCodes
from doctor.evidence.table_profile import ColumnProfile, ColumnProfiles, TableProfile
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look

from ._rows import listed


class TableMissingLimits(Limits):
    """Thresholds of DAT001 on tables."""

    null_share: float = 0.05  # of a feature's values in a split
    changed: float = 0.05  # difference of that share between training and another split
    optional: float = 0.5  # share from which a column is one that most rows have no value for, in every split
    z: float = 6.0  # of that difference, over its standard error


@look("DAT001")
def missing_in_table(
    profile: TableProfile, codes: MissingCodes | None, limits: TableMissingLimits
) -> Iterator[Finding]:
    """Nulls, NaN and infinities in features and target, and numbers, dates and words that stand for a missing value."""
    for code in codes.codes if codes else ():
        yield _disguised(code, profile)
    explained = dict(codes.explained) if codes else {}
    for column in profile.columns:
        for split in column.splits:
            if split.infinite and column.role != "split":
                yield _infinite(column, split)
            if column.role == "target" and 0 < split.nulls < split.rows:
                yield _nulls(column, split, Severity.ERROR, 0.0)
            elif column.role == "feature" and split.null_share > limits.null_share and split.nulls < split.rows:
                severity, why = _weight(column, split, explained, limits)
                yield _nulls(column, split, severity, limits.null_share, why)


def _weight(
    column: ColumnProfiles, split: ColumnProfile, explained: dict[str, str], limits: TableMissingLimits
) -> tuple[Severity, str]:
    """A gap that opened in one split is a fault; one that another column explains, or in free text, is none."""
    if column.name in explained:
        return Severity.INFO, f"; {explained[column.name]} says where"
    for other in column.splits:
        if other.split != split.split and other.rows and split.null_share - other.null_share > limits.changed:
            pooled = (split.nulls + other.nulls) / (split.rows + other.rows)
            error = math.sqrt(pooled * (1 - pooled) * (1 / split.rows + 1 / other.rows))
            if (split.null_share - other.null_share) > limits.z * error:
                return Severity.ERROR, f", but {other.null_share:.1%} in {other.split}"
    optional = all(other.null_share >= limits.optional for other in column.splits if other.rows)
    free = column.column.kind == "text" and not column.counts
    return (Severity.INFO if optional or free else Severity.WARNING), ""


def _nulls(
    column: ColumnProfiles, split: ColumnProfile, severity: Severity, threshold: float, why: str = ""
) -> Finding:
    what = "targets" if column.role == "target" else "values"
    return Finding(
        severity=severity,
        message=f"{split.nulls:,} of {split.rows:,} {what} of {column.name} are missing in {split.split} "
        f"({split.null_share:.1%}){why}",
        location=Location(column=column.name),
        measured={
            "nulls": Measure(value=split.nulls),
            "share": Measure(value=split.null_share, threshold=threshold),
        },
        rows=listed(split.missing) if split.missing else None,
        remedy="drop the rows without a target"
        if column.role == "target"
        else "impute it, with an indicator of the gap",
    )


def _infinite(column: ColumnProfiles, split: ColumnProfile) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        message=f"{split.infinite:,} of {split.rows:,} values of {column.name} are infinite in {split.split}",
        location=Location(column=column.name),
        measured={"infinite": Measure(value=split.infinite, threshold=0)},
        remedy="find the division or logarithm that made them, and treat them as missing",
    )


def _disguised(code: MissingCode, profile: TableProfile) -> Finding:
    counts = ", ".join(f"{count:,} in {split}" for split, count in code.counts if count)
    values = " and ".join(code.values[:6])
    others = f"; the others lie between {code.low:.6g} and {code.high:.6g}" if code.low is not None else ""
    measured = {"rows": Measure(value=code.rows.count), "share": Measure(value=code.rows.count / max(profile.rows, 1))}
    if code.distance is not None:
        measured["distance"] = Measure(value=code.distance)
    return Finding(
        severity=Severity.ERROR,
        message=f"{code.rows.count:,} values of {code.column} are {values} ({counts}) and stand for a missing one{others}",
        location=Location(column=code.column),
        measured=measured,
        rows=listed(code.rows),
        remedy=f"read {values} as missing (na_values), and impute with an indicator of the gap",
    )
