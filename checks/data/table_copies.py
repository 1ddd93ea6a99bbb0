"""Rows of an evaluation split that are training rows, changed a little."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.row_neighbours import RowNeighbours
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look

from ._rows import listed


class NearRowLimits(Limits):
    """Thresholds of DAT004 on tables."""

    farthest: float = 0.35  # mean difference of the columns, in tenths of their spreads: a third may be others
    overlap: float = 0.6  # of the 5-letter pieces of two texts
    false: float = 0.005  # of the rows found, by what training rows have among each other
    min_rows: int = 4
    min_share: float = 0.005  # of the split's rows


@look("DAT004")
def near_rows(neighbours: RowNeighbours, limits: NearRowLimits) -> Iterator[Finding]:
    """Rows nearly equal to a training row, where training rows are not as near to each other."""
    for one in neighbours.found:
        distance, places = one.copies(1 - limits.overlap if one.column else limits.farthest, limits.false)
        share = len(places) / max(len(one.numbers), 1)
        if len(places) < limits.min_rows or share < limits.min_share:
            continue
        usual = float((one.usual <= distance).mean())
        what = f"texts of {one.column} in" if one.column else "rows of"
        yield Finding(
            severity=Severity.ERROR,
            message=f"{len(places):,} of {len(one.numbers):,} {what} {one.split} are nearly one of train's ({share:.1%}), "
            f"changed by a few {'words' if one.column else 'values or digits'}; {usual:.1%} of train's have such a neighbour in train",
            location=Location(column=one.column),
            measured={
                "rows": Measure(value=len(places), threshold=limits.min_rows),
                "share": Measure(value=share, threshold=limits.min_share),
                "distance": Measure(value=distance),
                "usual": Measure(value=usual),
            },
            rows=listed(one.rows(places)),
            remedy="split by what the rows were made from (person, document, measurement) before copies are made",
            demonstrated="nearer than unrelated rows are",
        )
