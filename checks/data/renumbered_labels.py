"""Labels that are numbered in another way in evaluation than in training."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.class_agreement import Agreement, ClassAgreement
from doctor.evidence.data_lines import DataLines
from doctor.findings import Finding, Measure
from doctor.registry import Limits, look

from ._places import location


class RenumberedLimits(Limits):
    """Thresholds of DAT006 on the numbers of labels in evaluation."""

    samples: int = 20  # of a label, in evaluation and in training
    trained: float = 0.4  # of a label's training samples, that are named rightly
    elsewhere: float = 0.5  # of its evaluated samples, that are named by one other number
    kept: float = 0.25  # that keep their number; in training, that are named by the other one
    moved: int = 2  # labels of which all this holds, with another number each


@look("DAT006")
def renumbered_labels(
    agreement: ClassAgreement, lines: DataLines | None, limits: RenumberedLimits
) -> Iterator[Finding]:
    """Labels that the model knows in training, and names consistently by other numbers in evaluation.

    Each split has numbered its labels by itself, by frequency or in order of appearance. A model that generalises badly
    scatters the samples of a label, or gives many labels one name.
    """
    for place in agreement.places:
        moved = dict(found for label in range(len(place.evaluation)) for found in _moved(place, label, limits))
        if len(moved) < limits.moved or len(set(moved.values())) < len(moved):
            continue
        shown = ", ".join(f"{label} as {named}" for label, named in list(moved.items())[:4])
        yield Finding(
            message=f"{len(moved)} labels that the model names rightly in training are other numbers in evaluation ({shown}): "
            "each split numbers its labels by itself",
            location=location(lines.encoded() if lines else None, place.source),
            measured={
                "moved_labels": Measure(value=len(moved), threshold=limits.moved),
                "named_alike": Measure(value=min(place.named(label)[1] for label in moved), threshold=limits.elsewhere),
            },
            remedy="make the table of labels once, from the training split, and use it for all splits",
            demonstrated="the outputs agree with the labels once these are numbered as in training",
            faults=("label-encoding", "preprocessing-mismatch"),
        )
        return


def _moved(place: Agreement, label: int, limits: RenumberedLimits) -> Iterator[tuple[int, int]]:
    named, share, own = place.named(label)
    if named == label or min(sum(place.evaluation[label]), sum(place.training[label])) < limits.samples:
        return
    known = place.trained(label, label) >= limits.trained and place.trained(label, named) <= limits.kept
    if known and share >= limits.elsewhere and own <= limits.kept:
        yield label, named
