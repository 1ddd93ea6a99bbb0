"""Rows of a table that are alike: repeated, leaked into the evaluation, or with contradicting targets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.row_matches import RowMatches
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look

from ._rows import listed


class RowLimits(Limits):
    """Thresholds of DAT002, DAT003 and DAT005 on tables."""

    beyond_chance: float = 3.0  # equal pairs over those that coincidence makes; correlated columns make more
    min_rows: int = 3  # fewer are told as info: any table of measurements has some
    min_share: float = 0.001  # of a split's rows


@look("DAT002")
def repeated_rows(matches: RowMatches, limits: RowLimits) -> Iterator[Finding]:
    """Rows that repeat an earlier row, target included."""
    for repeats in matches.repeats:
        repeats = repeats.instead or repeats
        clear = _clear(repeats.pairs, repeats.by_chance, limits)
        grave = clear and repeats.rows.count >= limits.min_rows and repeats.rows.share >= limits.min_share
        order = ", in the same order, as of a part that was delivered twice" if repeats.in_order else ""
        yield Finding(
            severity=Severity.ERROR if grave else Severity.INFO,
            message=f"{repeats.rows.count:,} of {repeats.rows.of:,} rows of {repeats.split} repeat an earlier row{order} "
            f"({repeats.rows.share:.2%}){_by_chance(repeats.by_chance, repeats.pairs)}{_besides(matches)}",
            measured={
                "rows": Measure(value=repeats.rows.count, threshold=limits.min_rows),
                "share": Measure(value=repeats.rows.share, threshold=limits.min_share),
                "pairs": Measure(value=repeats.pairs),
                "pairs_by_chance": Measure(value=round(repeats.by_chance, 3)),
            },
            rows=listed(repeats.rows),
            remedy="drop the repeated rows before the data is split (or weight them, where repeats are meant)",
            demonstrated="equal values in every column" if grave else None,
        )


@look("DAT003")
def leaked_rows(matches: RowMatches, limits: RowLimits) -> Iterator[Finding]:
    """Rows of an evaluation split that stand in the training split."""
    for leak in matches.leaks:
        leak = leak.instead or leak
        clear = _clear(leak.pairs, leak.by_chance, limits)
        grave = clear and leak.rows.count >= limits.min_rows and leak.rows.share >= limits.min_share
        same = f", {leak.same_target:,} of them with the same target" if leak.same_target < leak.rows.count else ""
        yield Finding(
            severity=Severity.ERROR if grave else Severity.INFO,
            message=f"{leak.rows.count:,} of {leak.rows.of:,} rows of {leak.split} stand in {leak.source}, too "
            f"({leak.rows.share:.2%}){same}{_by_chance(leak.by_chance, leak.pairs)}{_besides(matches)}",
            measured={
                "rows": Measure(value=leak.rows.count, threshold=limits.min_rows),
                "share": Measure(value=leak.rows.share, threshold=limits.min_share),
                "same_target": Measure(value=leak.same_target),
                "pairs_by_chance": Measure(value=round(leak.by_chance, 3)),
            },
            rows=listed(leak.rows),
            remedy=f"drop these rows from {leak.split}, and split after duplicates are removed",
            demonstrated="equal values in every feature" if grave else None,
        )


@look("DAT005")
def contradicting_rows(matches: RowMatches, limits: RowLimits) -> Iterator[Finding]:
    """Rows with equal features and different targets."""
    for conflict in matches.conflicts:
        conflict = conflict.instead or conflict
        clear = _clear(conflict.pairs, conflict.by_chance, limits) and not matches.numeric_target
        grave = clear and conflict.groups >= limits.min_rows and conflict.rows.share >= limits.min_share
        yield Finding(
            severity=Severity.ERROR if grave else Severity.INFO,
            message=f"{conflict.rows.count:,} rows of {conflict.split} contradict another: {conflict.groups:,} combinations "
            f"of feature values stand there with different targets{_by_chance(conflict.by_chance, conflict.pairs)}",
            measured={
                "groups": Measure(value=conflict.groups, threshold=limits.min_rows),
                "rows": Measure(value=conflict.rows.count),
                "minority_rows": Measure(value=conflict.minority),
                "share": Measure(value=conflict.rows.share, threshold=limits.min_share),
                "pairs_by_chance": Measure(value=round(conflict.by_chance, 3)),
            },
            rows=listed(conflict.rows),
            location=Location(),
            remedy="decide which target is right, or drop the groups",
            demonstrated="equal features, different targets" if grave else None,
        )


def _clear(pairs: int, by_chance: float, limits: RowLimits) -> bool:
    return pairs > limits.beyond_chance * by_chance + 5 * math.sqrt(by_chance)


def _by_chance(expected: float, pairs: int) -> str:
    if expected >= pairs:
        return "; coincidence makes as many"
    return f"; coincidence makes about {expected:,.0f} of the {pairs:,} equal pairs" if expected >= 0.5 else ""


def _besides(matches: RowMatches) -> str:
    return f"; {', '.join(matches.left_out)} not compared" if matches.left_out else ""
