"""Columns of a table that carry nothing, name rows, or hold two kinds of things."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from doctor.evidence.column_facts import ColumnFacts
from doctor.evidence.identifiers import Identifiers
from doctor.evidence.reference_scores import ReferenceScores
from doctor.evidence.table_profile import ColumnProfiles, TableProfile
from doctor.evidence.table_sample import TableSample
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check, look

from ._rows import listed
from ._units import unit_of

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


class TableTypeLimits(Limits):
    """Thresholds of DAT021."""

    min_rows: int = 2  # values that are no numbers, in a column of numbers
    max_share: float = 0.2


class UnitLimits(Limits):
    """Thresholds of DAT022."""

    separation: float = 2.2  # distance of the two heaps over the sum of their deviations
    foretold: float = 0.6  # how well other columns tell the heaps apart: populations differ in more than one column


class TableDegenerateLimits(Limits):
    """Thresholds of DAT010 on tables."""

    usual: float = 0.9  # of a column's rows elsewhere have the value that it always has in one split


@look("DAT010")
def degenerate_columns(
    profile: TableProfile, facts: ColumnFacts | None, limits: TableDegenerateLimits
) -> Iterator[Finding]:
    """Columns with one value or none, and columns that repeat another."""
    series = _series(profile)
    for column in profile.features:
        empty = [split.split for split in column.splits if split.rows and split.nulls == split.rows]
        single = [split.split for split in column.splits if split.rows > 1 and _constant(column, split.split)]
        varied = [s.split for s in column.splits if s.rows > 1 and s.split not in single and s.split not in empty]
        if not empty and not single:
            continue
        everywhere = not varied
        what = "is empty" if empty and not single else "has one value"
        usual = bool(varied) and all(_usual(column, split, varied) >= limits.usual for split in single) and not empty
        part_of_series = re.sub(r"\d+", "#", column.name) in series
        severity = (
            Severity.INFO
            if usual or (part_of_series and everywhere)
            else Severity.WARNING
            if everywhere
            else Severity.ERROR
        )
        others = f", and varies in {' and '.join(varied)}" if varied else ""
        yield Finding(
            severity=severity,
            message=f"{column.name} {what} in {' and '.join(dict.fromkeys((*single, *empty)))}{others}",
            location=Location(column=column.name),
            measured={"distinct": Measure(value=0 if empty and not single else 1, threshold=2)},
            remedy="drop the column" if everywhere else "find out where its values were lost",
        )
    for one, other in facts.twins if facts else ():
        yield Finding(
            severity=Severity.WARNING,
            message=f"{other} holds the same values as {one} in every row",
            location=Location(column=other),
            remedy=f"drop {other}",
        )


def _usual(column: ColumnProfiles, split: str, others: list[str]) -> float:
    """How much of the other splits has the only value of this one: a rare flag may never be up in a short split."""
    own = column.of(split)
    if own is None or not own.values:
        return 0.0
    value, there = own.values[0][0], [column.of(other) for other in others]
    rows = sum(one.rows - one.nulls for one in there if one)
    return sum(dict(one.values).get(value, 0) for one in there if one) / max(rows, 1)


def _constant(column: ColumnProfiles, split: str) -> bool:
    own = column.of(split)
    return own is not None and own.nulls == 0 and (len(own.values) == 1 or (own.distinct == 1 and not own.values))


def _series(profile: TableProfile) -> frozenset[str]:
    """Stems of columns that are numbered, as the pixels of an image: some of them may well be constant."""
    stems = Counter(re.sub(r"\d+", "#", column.name) for column in profile.features)
    return frozenset(stem for stem, count in stems.items() if "#" in stem and count >= 16)


@look("DAT025")
def identifying_columns(
    ids: Identifiers, scores: ReferenceScores | None, sample: TableSample | None
) -> Iterator[Finding]:
    """Columns that name their rows: harmless while left out, a fault where they foretell the target."""
    for column in ids.columns:
        alone = scores.alone(column.name) if scores else None
        tells = alone is not None and alone >= 0.3 and not (sample is not None and _series_of(sample, column.name))
        yield Finding(
            severity=Severity.ERROR if tells else Severity.INFO,
            message=f"{column.name} names the rows ({column.distinct:,} values in {column.rows:,} rows)"
            + (f" and foretells the target out of fold (score {alone:.2f} of 1)" if tells else ""),
            location=Location(column=column.name),
            measured={
                "distinct": Measure(value=column.distinct),
                "score_alone": Measure(value=alone, threshold=0.3),
            },
            remedy="leave it out of the features"
            + (", and shuffle: rows were numbered in the order of the target" * tells),
        )


def _series_of(sample: TableSample, name: str) -> bool:
    """Whether the rows are a series in the order of this column: a measured feature goes on from row to row."""
    order = np.argsort(sample.base.values[name], kind="stable") if sample.kinds.get(name) == "number" else None
    if order is None:
        return False
    for feature in sample.features:
        values = sample.base.values[feature] if sample.kinds[feature] == "number" else np.zeros(0)
        known = values[order][np.isfinite(values[order])] if len(values) else values
        if len(np.unique(known)) > 20 and np.corrcoef(known[:-1], known[1:])[0, 1] >= 0.8:
            return True
    return False


@check("DAT021", "mixed-types", Severity.ERROR, faq="training/data/incorrect")
def mixed_types(profile: TableProfile, facts: ColumnFacts | None, limits: TableTypeLimits) -> Iterator[Finding]:
    """A column of numbers holds values that are none, or one value is written in several ways.

    ## What it measures
    Columns of which at least four fifths of the values are numbers: the others, unless they are words for a missing one
    (DAT001). In JSON lines and frames, the types that the values have. Categories that differ by case or blanks only
    are told as info.
    ## Why it hurts
    One "12 kg" makes the whole column text: it is then dropped, or encoded as thousands of categories.
    ## Example
    ```python
    frame = pd.read_csv("weights.csv")        # 71.5, 80, "12 kg", "1,204"
    ```
    ## Use instead
    ```python
    frame = pd.read_csv("weights.csv", thousands=",")
    frame["weight"] = pd.to_numeric(frame["weight"].str.removesuffix(" kg"), errors="raise")
    ```
    ## When it is right
    Codes (zip codes, ticket numbers) are text of which some look like numbers: columns with leading zeros or with more
    than a fifth of other values are silent.
    ## References
    Hynes et al., "The Data Linter" (2017).
    """
    for column in profile.columns:
        column_ = column.column
        strange = [(value, count) for value, count in column_.strangers if not _blank(value)]
        count = sum(n for _, n in strange)
        if strange and limits.min_rows <= count <= limits.max_share * column.rows and column.role != "split":
            shown = ", ".join(f'"{value[:20]}"' for value, _ in strange[:4])
            yield Finding(
                message=f"{count:,} of {column.rows - column.nulls + column_.unreadable:,} values of {column.name} are no "
                f"numbers, as the others are: {shown}",
                location=Location(column=column.name),
                measured={"values": Measure(value=count, threshold=limits.min_rows)},
                rows=listed(column.strange) if column.strange else None,
                remedy="parse them into numbers when the file is read, and fail on what is none",
            )
        elif column_.mixed:
            yield Finding(
                message=f"values of {column.name} are of several types: {', '.join(f'{n:,} {t}' for t, n in column_.mixed)}",
                location=Location(column=column.name),
                measured={"types": Measure(value=len(column_.mixed), threshold=1)},
                remedy="write the column with one type",
            )
    for spelling in facts.spellings if facts else ():
        if spelling.role == "feature":
            yield Finding(
                severity=Severity.INFO,
                message=f"{spelling.rows.count:,} values of {spelling.column} differ from another by case or blanks only: "
                f"{' / '.join(repr(value) for value in spelling.groups[0])}",
                location=Location(column=spelling.column),
                rows=listed(spelling.rows),
                remedy="strip and case-fold the column",
            )


def _blank(value: str) -> bool:
    return value.strip().lower() in (
        "", "?", "na", "n/a", "nan", "null", "none", "-", "--", ".", "#n/a", "missing", "<na>", "(null)", "unknown",
    )  # fmt: skip


@check("DAT022", "unit-mix", Severity.ERROR, faq="training/data/incorrect")
def unit_mix(facts: ColumnFacts, limits: UnitLimits) -> Iterator[Finding]:
    """Part of a column is written in another unit.

    ## What it measures
    The column's values (their logarithms where all are positive) are cut at the valley between two heaps. It fires when
    the heaps have one shape (Kolmogorov-Smirnov), are `separation` times their deviations apart, and one is the other
    times a factor between units (2.54, 1.609, 0.4536, 100, 1000 ...) to within 3 % (2.5 standard errors, where these are more), or Celsius against Fahrenheit.
    ## Why it hurts
    The same quantity has two values; the scale of the column is that of the larger unit, and the rest looks constant.
    ## Example
    ```python
    heights = pd.concat([site_a["height_cm"], site_b["height_in"]])
    ```
    ## Use instead
    ```python
    heights = pd.concat([site_a["height_cm"], site_b["height_in"] * 2.54])
    ```
    ## When it is right
    Two populations (adults and children, weekdays and weekends) have heaps of different shape, another ratio, or differ in
    other columns, too, which then tell the heaps apart (`foretold`): these are silent.
    ## References
    NIST, "Guide for the Use of the International System of Units", appendix B (2008), for the factors.
    """
    told: set[str] = set()
    for heaps in facts.units:
        units = unit_of(heaps.units[0], heaps.units[1], heaps.deviation, heaps.error)
        if not units or heaps.separation < limits.separation or heaps.foretold > limits.foretold:
            continue
        if heaps.column in told:
            continue
        told.add(heaps.column)
        yield Finding(
            message=f"{heaps.rows.count:,} values of {heaps.column} look like another unit ({units}): they lie about "
            f"{heaps.centres[1]:.4g}, the others about {heaps.centres[0]:.4g}, in one shape",
            location=Location(column=heaps.column),
            measured={
                "rows": Measure(value=heaps.rows.count),
                "factor": Measure(value=heaps.units[0]),
                "separation": Measure(value=heaps.separation, threshold=limits.separation),
                "remainder": Measure(value=heaps.remainder),
                "foretold": Measure(value=heaps.foretold, threshold=limits.foretold),
                "cut": Measure(value=heaps.threshold),
            },
            rows=listed(heaps.rows),
            remedy="convert these rows to the unit of the others",
        )
