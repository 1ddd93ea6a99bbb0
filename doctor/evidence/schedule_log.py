"""The learning rates over time, and what the schedulers did to them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source, sources
from doctor.probes import probe


@dataclass(frozen=True)
class SchedulerRecord:
    """One scheduler object.

    `initial` is the optimizer's own rate, `first` the one that it set when it was made. `steps` counts the calls of
    its `step` by the program, `inner` those by a scheduler that wraps it. `positions` are the optimizer's steps
    before each call and `rates` the rate after it; `repeats` counts calls with no optimizer step since the one before;
    `before_first` says that it was stepped before the optimizer ever was; `rising` is the number of calls after which
    the factor of a LambdaLR is largest.
    """

    kind: str
    optimizer: int | None = None
    settings: Mapping[str, float | str | bool] = field(default_factory=dict)
    created: Source | None = None
    lines: tuple[Source, ...] = ()
    initial: float | None = None
    first: float | None = None
    steps: int = 0
    inner: int = 0
    repeats: int = 0
    before_first: bool = False
    rising: int = 0
    positions: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()

    @property
    def every_step(self) -> bool:
        """Whether it is stepped after (almost) each step of the optimizer."""
        known = self.positions
        gaps = [later - earlier for earlier, later in itertools.pairwise(known)]
        return len(gaps) >= 6 and sum(gap == 1 for gap in gaps) >= 0.9 * len(gaps)


@dataclass(frozen=True)
class LoaderEpochs:
    """How often a DataLoader was begun, and its batches an epoch (0: unknown)."""

    loader: int
    begun: int
    batches: int = 0
    used_in_training: bool = True


@dataclass(frozen=True)
class ScheduleLog(Evidence):
    """Schedulers, the highest rate over the groups of each optimizer by its steps, and epochs."""

    schedulers: tuple[SchedulerRecord, ...] = ()
    rates: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    epochs: tuple[LoaderEpochs, ...] = ()

    def training_epochs(self) -> tuple[int, int]:
        """How often the training data were begun, and the batches of one epoch; zeros where no loader is used."""
        used = [record for record in self.epochs if record.used_in_training]
        most = max(used, key=lambda record: record.begun, default=None)
        return (most.begun, most.batches) if most else (0, 0)


@probe
def schedule_log(recording: Recording) -> ScheduleLog:
    """Read schedulers, rates and epochs."""
    # Where both are called from within one line of the user's, a library calls them there.
    by_library = {source(event["line"]) for event in recording.of("backward")}
    return ScheduleLog(
        schedulers=tuple(
            SchedulerRecord(
                kind=event["kind"],
                optimizer=event["optimizer"],
                settings=event["settings"],
                created=source(event["created"]),
                lines=tuple(line for line in sources(event["lines"]) if line not in by_library),
                initial=event["initial"],
                first=event["first"],
                steps=event["steps"],
                inner=event["inner"],
                repeats=event["repeats"],
                before_first=event["before_first"],
                rising=event.get("rising", 0),
                positions=tuple(event["positions"]),
                rates=tuple(event["rates"]),
            )
            for event in recording.of("scheduler")
        ),
        rates={event["optimizer"]: tuple(event["values"]) for event in recording.of("rates")},
        epochs=tuple(
            LoaderEpochs(event["loader"], event["begun"], event["batches"], event["used_in_training"])
            for event in recording.of("epochs")
        ),
    )
