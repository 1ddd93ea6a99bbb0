"""Which class the model names for which label, in training and in evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class Agreement:
    """The batches of one loader in its latest evaluation, beside the latest batches of training.

    Both tables count samples, label by label (rows) and class named by the model (columns).
    """

    training: tuple[tuple[int, ...], ...]
    evaluation: tuple[tuple[int, ...], ...]
    loader: int | None = None
    source: Source | None = None

    @property
    def samples(self) -> int:
        """Of the evaluation."""
        return sum(map(sum, self.evaluation))

    def named(self, label: int) -> tuple[int, float, float]:
        """The class that an evaluated label is named most, the share of that, and the share of its own number."""
        row = self.evaluation[label]
        total = sum(row)
        most = max(range(len(row)), key=row.__getitem__)
        return (most, row[most] / total, row[label] / total) if total else (label, 0.0, 0.0)

    def trained(self, label: int, named: int) -> float:
        """Share of a training label that is named so."""
        row = self.training[label]
        return row[named] / max(sum(row), 1)


@dataclass(frozen=True)
class ClassAgreement(Evidence):
    """All evaluated loaders."""

    places: tuple[Agreement, ...] = ()


@probe
def class_agreement(recording: Recording) -> ClassAgreement:
    """Read the tables."""
    events = recording.some("agreement", "no evaluation over a loader with labels was seen")
    return ClassAgreement(
        tuple(
            Agreement(_table(event["training"]), _table(event["evaluation"]), event["loader"], source(event["line"]))
            for event in events
        )
    )


def _table(rows: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in rows)
