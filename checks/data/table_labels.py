"""The target of a table: its classes, how they are written and how often they occur, and the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.column_facts import ColumnFacts
from doctor.evidence.data_source import TRAIN
from doctor.evidence.table_profile import ColumnProfiles, TableProfile
from doctor.evidence.table_rows import Rows
from doctor.evidence.target_order import TargetOrder
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look

from ._rows import listed


class TableLabelLimits(Limits):
    """Thresholds of DAT006 and DAT007 on tables."""

    max_classes: int = 200
    expected: float = 8.0  # rows of a class that a split would have, for its absence to be no accident
    vanished: float = 0.1  # share of a class in training, over that in the evaluation
    accident: float = 0.05  # probability that all rows of a class came into one split by chance
    counted: int = 15  # whole numbers from which on they may be counts, if neighbours are about as frequent


def _counted(target: ColumnProfiles, limits: TableLabelLimits) -> bool:
    """Whether whole numbers are counts or amounts: many, and as frequent as their neighbours, which class ids are not."""
    if target.column.kind != "integer" or len(target.counts) < limits.counted:
        return False
    ordered = sorted((int(float(value)), count) for value, count in target.counts.items())
    frequencies = [count for _, count in ordered]
    inner = sorted(frequencies)[len(frequencies) // 10 : -len(frequencies) // 10]
    if inner[-1] < 2 * inner[0]:
        return False  # about as many of each: classes, or numbers of which every split has all
    ranks = {place: rank for rank, place in enumerate(sorted(range(len(ordered)), key=frequencies.__getitem__))}
    step = sum(abs(ranks[i + 1] - ranks[i]) for i in range(len(ordered) - 1)) / (len(ordered) - 1)
    gaps = ordered[-1][0] - ordered[0][0] + 1 > 1.02 * len(ordered)  # ids of classes leave none out
    return gaps or step < 0.6 * (len(ordered) + 1) / 3  # the mean step of ranks in no order


@look("DAT006")
def table_labels(profile: TableProfile, facts: ColumnFacts | None, limits: TableLabelLimits) -> Iterator[Finding]:
    """Classes that are written in several ways, that training does not know, or whose numbers stand apart."""
    target = profile.target
    if target is None or not 2 <= len(target.counts) <= limits.max_classes or target.column.kind == "float":
        return
    if _counted(target, limits):
        return
    for spelling in facts.spellings if facts else ():
        if spelling.role == "target":
            groups = "; ".join(" / ".join(repr(value) for value in group) for group in spelling.groups[:4])
            yield _label(
                target, f"{spelling.rows.count:,} labels differ from another by case or blanks only: {groups}",
                spelling.rows, "strip and case-fold the labels before they are numbered",
            )  # fmt: skip
    train = target.of(TRAIN)
    known = {value for value, _ in train.values} if train else set()
    for split in target.splits:
        new = [(value, count) for value, count in split.values if value not in known] if known else []
        if new and split.split != TRAIN:
            count = sum(number for _, number in new)
            share = sum(n for _, n in split.values) / sum(target.counts.values())
            # As many rare rows may all have come into this split: it tells nothing then.
            rare = max(number for _, number in new)
            severity = Severity.ERROR if share**rare < limits.accident else Severity.INFO
            shown = ", ".join(f"{value!r} ({count:,})" for value, count in new[:5])
            yield _label(
                target, f"{count:,} rows of {split.split} have a class that train lacks: {shown}",
                None, "number the classes over all splits, and see that training has each", severity,
            )  # fmt: skip
    yield from _numbers(target)


def _numbers(target: ColumnProfiles) -> Iterator[Finding]:
    """Class ids 0, 1, ... with one that stands apart: negative, or far above."""
    if target.column.kind != "integer":
        return
    counts = {int(float(value)): count for value, count in target.counts.items()}
    ordered = sorted(counts)
    inner = [value for value in ordered if value >= 0]
    run = [value for place, value in enumerate(inner) if value == inner[0] + place]
    apart = [value for value in ordered if value not in run]
    if len(run) >= 2 and inner[0] in (0, 1) and 0 < len(apart) <= 2 and len(run) >= 2 * len(apart):
        if set(ordered) == {-1, 0, 1}:  # three signs
            return
        far = [value for value in apart if value < 0 or value > 2 * run[-1] + 5]
        if far:
            rows = sum(counts[value] for value in far)
            yield _label(
                target, f"{rows:,} labels are {', '.join(map(str, far))}, the others run from {run[0]} to {run[-1]}",
                None, "drop these rows, or tell the loss to ignore them (ignore_index)",
            )  # fmt: skip
    elif not apart and ordered[0] == 1 and len(ordered) > 2:
        yield _label(
            target, f"labels run from 1 to {ordered[-1]}: as class ids they leave output 0 unused",
            None, "subtract 1 where they are used as class ids", Severity.INFO,
        )  # fmt: skip


def _label(
    target: ColumnProfiles, message: str, rows: Rows | None, remedy: str, severity: Severity = Severity.ERROR
) -> Finding:
    return Finding(
        severity=severity,
        message=message,
        location=Location(column=target.name),
        measured={"classes": Measure(value=len(target.counts))},
        rows=listed(rows) if rows else None,
        remedy=remedy,
    )


@look("DAT007")
def table_imbalance(profile: TableProfile, limits: TableLabelLimits) -> Iterator[Finding]:
    """A class that a split lacks, or that training has far less of than the evaluation."""
    target = profile.target
    if target is None or not 2 <= len(target.counts) <= limits.max_classes or target.column.kind == "float":
        return
    if _counted(target, limits):
        return
    total = sum(target.counts.values())
    train = target.of(TRAIN)
    for split in target.splits:
        own, filled = dict(split.values), sum(count for _, count in split.values)
        rest = total - filled
        for value, count in target.counts.items():
            others = count - own.get(value, 0)
            expected = others / rest * filled if rest else 0.0
            if own.get(value, 0) == 0 and expected >= limits.expected:
                yield _class(
                    target, Severity.ERROR,
                    f"{split.split} has no row of class {value!r}, of which {expected:,.0f} were expected",
                    {"rows": Measure(value=0), "expected": Measure(value=expected, threshold=limits.expected)},
                )  # fmt: skip
            elif train is not None and split.split != TRAIN and filled:
                share = dict(train.values).get(value, 0) / max(sum(n for _, n in train.values), 1)
                here = own.get(value, 0) / filled
                if 0 < share < limits.vanished * here and own.get(value, 0) >= 20:
                    yield _class(
                        target, Severity.ERROR, f"class {value!r} is {share:.2%} of train and {here:.1%} of {split.split}",
                        {"share": Measure(value=share, threshold=limits.vanished * here)},
                    )  # fmt: skip
    least, count = min(target.counts.items(), key=lambda item: item[1])
    if count / total < 0.2 / len(target.counts):
        yield _class(
            target, Severity.INFO, f"class {least!r} is {count:,} of {total:,} rows ({count / total:.2%})",
            {"share": Measure(value=count / total)},
        )  # fmt: skip


def _class(target: ColumnProfiles, severity: Severity, message: str, measured: dict[str, Measure]) -> Finding:
    remedy = "weight the loss or the sampler, and judge by a metric of each class"
    if severity is Severity.ERROR:
        remedy = "split by class (stratify), so that every split has each class in like shares"
    return Finding(
        severity=severity, message=message, location=Location(column=target.name), measured=measured, remedy=remedy
    )


@look("DAT014")
def sorted_rows(order: TargetOrder) -> Iterator[Finding]:
    """Rows in the order of their target: harmless while a loader shuffles them."""
    for split, changes, expected in order.splits:
        if changes < 0.2 * expected:
            yield Finding(
                severity=Severity.INFO,
                message=f"the rows of {split} stand in blocks of one target: it changes {changes:,} times, and about "
                f"{expected:,.0f} times in random order",
                location=Location(column=order.target),
                measured={"changes": Measure(value=changes, threshold=0.2 * expected)},
                remedy="shuffle when loading (shuffle=True), and before the data is cut into splits",
            )
