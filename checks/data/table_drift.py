"""Evaluation data that is distributed otherwise than the training data, or prepared otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.split_comparison import Affine, Shift, SplitComparison
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look

from ._units import unit_of

WHOLE_SET = 3  # columns that are mapped alike before it counts as preparation, not as drift


class TableDriftLimits(Limits):
    """Thresholds of DAT015 on tables."""

    distance: float = 0.2  # Kolmogorov-Smirnov statistic or total variation; below, drift costs little
    dated: float = 0.35  # the same where the splits are of different times: some drift is then a matter of course
    mentioned: float = 0.1
    p_value: float = 0.001  # over all tests (Bonferroni)
    auc: float = 0.85  # of the classifier of the splits, where no column stands out alone


class TableMismatchLimits(Limits):
    """Thresholds of DAT016 on tables."""

    remainder: float = 0.08  # Kolmogorov-Smirnov statistic that remains after the affine map
    scale: float = 1.25  # the map's factor (or one over it) from which it is no drift
    p_value: float = 0.001


@look("DAT015")
def drift_in_table(comparison: SplitComparison, limits: TableDriftLimits) -> Iterator[Finding]:
    """Columns whose values are distributed otherwise in an evaluation split."""
    level = limits.p_value / comparison.tests
    prepared = {(shift.column, shift.split) for shift in _prepared(comparison, TableMismatchLimits())}
    aucs = dict(comparison.auc)
    alone = False
    dated = {shift.split for shift in comparison.shifts if shift.timelike and shift.distance > 0.5}
    moved: set[str] = set()  # splits in which a feature did: that the target follows is no finding of its own
    for shift in sorted(comparison.shifts, key=lambda shift: (shift.role == "target", -shift.distance)):
        if shift.timelike or (shift.column, shift.split) in prepared:
            continue
        if shift.p_value >= level or shift.distance < limits.mentioned:
            continue
        threshold = limits.dated if shift.split in dated else limits.distance
        grave = shift.distance >= threshold and not (shift.role == "target" and shift.split in moved)
        moved |= {shift.split} if grave else set()
        alone = alone or grave
        yield Finding(
            severity=Severity.ERROR if grave else Severity.INFO,
            message=f"{shift.column} is distributed otherwise in {shift.split} than in train "
            f"({'total variation' if shift.kind == 'category' else 'KS'} {shift.distance:.2f}){_what(shift)}",
            location=Location(column=shift.column),
            measured={
                "distance": Measure(value=shift.distance, threshold=threshold),
                "p_value": Measure(value=shift.p_value, threshold=level),
                "auc_train_or_eval": Measure(value=aucs.get(shift.split)),
            },
            remedy="train on data of the situation that is evaluated, or do not take this score for that of the task",
        )
    for split, auc in comparison.auc:
        if auc >= limits.auc and not alone and split not in dated and not prepared and not comparison.absent:
            yield Finding(
                severity=Severity.WARNING,
                message=f"a classifier tells rows of {split} from those of train (AUC {auc:.2f}), though no column does alone",
                measured={"auc_train_or_eval": Measure(value=auc, threshold=limits.auc)},
                remedy="look at the combinations of columns: were the splits drawn from different sources?",
            )


def _what(shift: Shift) -> str:
    if shift.new_share > 0.01:
        return f"; {', '.join(shift.new[:3])} ({shift.new_share:.1%}) never occurs in train"
    return f"; mean {shift.means[0]:.4g} in train, {shift.means[1]:.4g} here" if shift.kind != "category" else ""


@look("DAT016")
def prepared_otherwise(comparison: SplitComparison, limits: TableMismatchLimits) -> Iterator[Finding]:
    """Columns that an affine map, another spelling or another set of columns makes of training's."""
    for shift in _prepared(comparison, limits):
        measured = {"distance": Measure(value=shift.distance), "p_value": Measure(value=shift.p_value)}
        if shift.affine is not None:
            measured |= {
                "scale": Measure(value=shift.affine.scale, threshold=limits.scale),
                "offset": Measure(value=shift.affine.offset),
                "remainder": Measure(value=shift.affine.distance, threshold=limits.remainder),
            }
        yield Finding(
            severity=Severity.ERROR,
            message=_map(shift),
            location=Location(column=shift.column),
            measured=measured,
            remedy="prepare all splits by one function, with statistics of the training split",
        )
    for column, split in comparison.absent:
        yield Finding(
            severity=Severity.ERROR if split == "train" else Severity.WARNING,
            message=f"{split} has no column {column}, which other splits have",
            location=Location(column=column),
            remedy="write all splits with the same columns",
        )


def _map(shift: Shift) -> str:
    affine = shift.affine
    if affine is None:
        return f"{shift.column} has other values in {shift.split} ({', '.join(shift.new[:3])}): none of train's occurs"
    known = unit_of(affine.scale, affine.offset, affine.base_deviation)
    named = f" ({known})" if known else ""
    return (
        f"{shift.column} in {shift.split} is {affine.scale:.4g} times that of train {affine.offset:+.4g}{named}: "
        f"mean {affine.base_mean:.4g} and deviation {affine.base_deviation:.4g} in train, "
        f"{affine.mean:.4g} and {affine.deviation:.4g} here"
    )


def _prepared(comparison: SplitComparison, limits: TableMismatchLimits) -> list[Shift]:
    """Shifts that are the work of a preparation: known by the map's numbers, or because most columns have one."""
    level = limits.p_value / comparison.tests
    found: list[Shift] = []
    for split in dict.fromkeys(shift.split for shift in comparison.shifts):
        own = [s for s in comparison.shifts if s.split == split and s.role == "feature" and not s.timelike]
        mapped = [s for s in own if s.p_value < level and s.affine is not None and _maps(s.affine, limits)]
        telling = [s for s in mapped if s.affine is not None and _telling(s.affine)]
        numbers = [s for s in own if s.kind == "number"]
        if len(mapped) >= WHOLE_SET and len(mapped) >= 0.5 * len(numbers):
            telling = mapped
        found += telling
        found += [s for s in own if s.kind == "category" and s.disjoint and len(s.new) <= 10 and s.p_value < level]
    return found


def _maps(affine: Affine, limits: TableMismatchLimits) -> bool:
    factor = max(abs(affine.scale), 1 / max(abs(affine.scale), 1e-12))
    return affine.distance <= limits.remainder and factor >= limits.scale


def _telling(affine: Affine) -> bool:
    """Whether the map is one that programs make: a unit, or standardised against raw values."""
    base = abs(affine.base_mean) < 0.1 and 0.9 < affine.base_deviation < 1.1
    other = abs(affine.mean) < 0.1 and 0.9 < affine.deviation < 1.1
    return base != other or bool(unit_of(affine.scale, affine.offset, affine.base_deviation))
