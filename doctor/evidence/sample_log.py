"""Which samples passed: how often in training, and which of those that were evaluated were trained on before."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class TrainingSamples:
    """The samples that one root was trained on, told apart by 64-bit fingerprints of their contents.

    `distinct` counts them. Of one pass over the data (an epoch of a loader that draws without replacement, or one full
    batch) `pass_samples` were seen and `pass_repeated` of them repeat another; `pass_unevenness` is the variance over the
    mean of how often each stands there. `continuous_share` is the share of
    distinct values in the most varied column and `continuous_columns` how many columns are at least a fifth distinct.
    """

    root: int
    distinct: int
    pass_samples: int = 0
    pass_repeated: int = 0
    pass_unevenness: float | None = None
    loader: int | None = None
    continuous_share: float = 0.0
    continuous_columns: int = 0

    @property
    def by_chance(self) -> float | None:
        """The share of new samples that equal one of these, as one pass over these tells: of `n` draws from
        `m` equally frequent contents some `n / 2m` repeat another, and a new one repeats one of them with `n / m`.

        None where no pass of 500 samples was seen, or so much repeats that it was copied.
        """
        if self.pass_samples < 500:
            return None
        repeated = self.pass_repeated / self.pass_samples
        return 2 * repeated if repeated <= 0.1 else None

    @property
    def unlikely_alike(self) -> bool:
        """Whether two different samples can hardly have the same contents: real-valued or many varied columns."""
        return self.continuous_share > 0.5 or self.continuous_columns >= 3


@dataclass(frozen=True)
class EvaluatedSamples:
    """The distinct samples of one way into evaluation (lines and loader).

    `seen` of its `samples` were trained on before; `covered` is the share of the training samples that it evaluates.
    `steps` counts the optimizer steps at which it ran. `pieces`/`pieces_seen` count middles of windows, and those that
    stand in some training window. `subset` is the line on which its subset was made.
    """

    root: int
    samples: int
    seen: int
    covered: float
    steps: int = 1
    of_steps: int = 80
    batches: int = 1
    repeated: bool = False
    same_dataset: bool = False
    pieces: int = 0
    pieces_seen: int = 0
    loader: int | None = None
    source: Source | None = None
    subset: Source | None = None

    @property
    def share(self) -> float:
        """Share of the evaluated samples that were trained on before."""
        return self.seen / self.samples if self.samples else 0.0


@dataclass(frozen=True)
class SharedIndices:
    """Two loaders over one data set: how many places of the evaluation loader the training loader draws, too."""

    loader: int
    samples: int
    shared: int
    training: int
    source: Source | None = None
    subset: Source | None = None
    training_subset: Source | None = None


@dataclass(frozen=True)
class WorkerBatches:
    """Batches of one epoch, round by round over the workers: `same` rounds gave the same batch from each."""

    workers: int
    rounds: int
    same: int
    iterable: bool
    source: Source | None = None


@dataclass(frozen=True)
class SampleLog(Evidence):
    """What passed."""

    training: tuple[TrainingSamples, ...] = ()
    evaluated: tuple[EvaluatedSamples, ...] = ()
    shared: tuple[SharedIndices, ...] = ()
    workers: tuple[WorkerBatches, ...] = ()


@probe
def sample_log(recording: Recording) -> SampleLog:
    """Read it."""
    training = tuple(
        TrainingSamples(
            root=event["root"],
            distinct=event["distinct"],
            pass_samples=event["passes_samples"],
            pass_repeated=event["passes_repeated"],
            pass_unevenness=event.get("passes_unevenness"),
            loader=event["loader"],
            continuous_share=event["continuous_share"],
            continuous_columns=event["continuous_columns"],
        )
        for event in recording.some("training-samples", "no training sample was seen")
    )
    plain = (
        "root", "samples", "seen", "covered", "steps", "of_steps", "batches", "repeated", "same_dataset", "pieces",
        "pieces_seen", "loader",
    )  # fmt: skip
    evaluated = tuple(
        EvaluatedSamples(
            source=source(event["line"]),
            subset=source(event["line_of_subset"]),
            **{name: event[name] for name in plain},
        )
        for event in recording.of("evaluation-samples")
    )
    shared = tuple(
        SharedIndices(
            loader=event["loader"],
            samples=event["samples"],
            shared=event["shared"],
            training=event["training"],
            source=source(event["line"]),
            subset=source(event["line_of_subset"]),
            training_subset=source(event["training_line"]),
        )
        for event in recording.of("shared-indices")
    )
    workers = tuple(
        WorkerBatches(event["workers"], event["rounds"], event["same"], event["iterable"], source(event["line"]))
        for event in recording.of("worker-batches")
    )
    return SampleLog(training, evaluated, shared, workers)
