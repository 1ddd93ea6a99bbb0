"""Images that are mirrored without their dense targets."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.batch_log import BatchLog
from doctor.evidence.data_lines import DataLines
from doctor.evidence.plane_pairs import PlanePairs
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from ._places import location


class MovedLimits(Limits):
    """Thresholds of DAT012 on images with dense targets."""

    least: int = 12  # samples of either kind
    share: float = 0.08  # of the samples that tell a difference; all mirrored is a task of its own


@look("DAT012")
def mirrored_without_targets(
    planes: PlanePairs, lines: DataLines | None, batches: BatchLog | None, limits: MovedLimits
) -> Iterator[Finding]:
    """Some images fit their mask or depth map only when that is mirrored: an augmentation moved one and not the other."""
    moved = sum(planes.moved.values())
    clear = moved + planes.kept
    if min(moved, planes.kept) < limits.least or moved < limits.share * clear:
        return
    how = max(planes.moved, key=lambda name: planes.moved[name])
    loader = next((ld.source for ld in (batches.loaders if batches else ()) if ld.used_in_training), None)
    flips = lines.of("flip") if lines else []
    yield Finding(
        message=f"{moved} of {clear} images fit their dense target only once it is mirrored ({how} most often): images "
        "are flipped and their targets are not",
        location=location(flips[0].source if flips else None, loader),
        severity=Severity.ERROR,
        measured={"mirrored": Measure(value=moved / clear, threshold=limits.share)},
        remedy="flip the target with its image, by the same draw",
        demonstrated="information between pixels and labels, as they lie and mirrored",
    )
