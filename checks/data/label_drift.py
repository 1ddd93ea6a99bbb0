"""Evaluations on other classes than training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from doctor.evidence.batch_log import BatchLog
from doctor.evidence.class_agreement import ClassAgreement
from doctor.evidence.data_lines import DataLines
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from ._places import location


class LabelDriftLimits(Limits):
    """Thresholds of DAT015 on class labels."""

    distance: float = 0.5  # total variation between the shares of the classes
    absent: float = 0.15  # of training: share of a class that evaluation does not hold at all
    samples: int = 100
    classes: int = 50
    whole: float = 0.9  # of the samples of a loader, by which its evaluation counts as whole


@look("DAT015")
def classes_that_evaluation_lacks(
    agreement: ClassAgreement, log: BatchLog, lines: DataLines | None, limits: LabelDriftLimits
) -> Iterator[Finding]:
    """Whole classes of training are missing in evaluation: the data were sorted when they were split.

    Only evaluations over all of a loader's samples count; a part of one may be sorted.
    """
    lengths = {loader.index: loader.length for loader in log.loaders if not loader.used_in_training}
    for place in agreement.places:
        one, other = _shares(place.training), _shares(place.evaluation)
        length = lengths.get(place.loader) if place.loader is not None else None
        few = min(sum(map(sum, place.training)), place.samples) < limits.samples or len(one) > limits.classes
        if few or length is None or place.samples < limits.whole * length:
            continue
        distance = sum(abs(a - b) for a, b in zip(one, other, strict=True)) / 2
        absent = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a >= limits.absent and b == 0]
        if distance < limits.distance or not absent:
            continue
        split = lines.of("split") if lines else []
        named = ", ".join(map(str, absent[:4]))
        yield Finding(
            severity=Severity.WARNING,
            message=f"evaluation holds no sample of class {named}, which are {sum(one[i] for i in absent):.0%} of training: "
            "it measures something else",
            location=location(
                split[0].source if split else None, lines.evaluation_inputs() if lines else None, place.source
            ),
            measured={"distance": Measure(value=distance, threshold=limits.distance)},
            remedy="shuffle before the split, or split by class (stratify)",
            demonstrated="the labels of all evaluated samples, and of the latest batches of training",
        )
        return


def _shares(table: Sequence[Sequence[int]]) -> list[float]:
    rows = [sum(row) for row in table]
    return [row / max(sum(rows), 1) for row in rows]
