"""What two workers of the training loader drew for the same samples."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class WorkerDraws(Evidence):
    """`random`: one worker draws a sample differently the second time. `same_across_workers`: another worker draws it
    just as the first one did; `same_across_epochs`: so do the workers of the next epoch.
    """

    workers: int
    random: bool
    same_across_workers: bool
    same_across_epochs: bool
    loader: int = 0
    source: Source | None = None
    init: Source | None = None
    dataset: Source | None = None


@probe
def worker_draws(recording: Recording) -> WorkerDraws:
    """Read it."""
    event = recording.some("worker-draws", "no training loader with workers was seen")[0]
    return WorkerDraws(
        workers=event["workers"],
        random=event["random"],
        same_across_workers=event["same_across_workers"],
        same_across_epochs=event["same_across_epochs"],
        loader=event["loader"],
        source=source(event["line"]),
        init=source(event["init_line"]),
        dataset=source(event["dataset_line"]),
    )
