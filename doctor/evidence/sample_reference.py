"""A quick reference model on simple features: what it predicts for samples that it did not see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.samples import Floats, Ints, Samples, spelling
from doctor.probes import probe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    from doctor.lazy import numpy as np


@dataclass(frozen=True)
class Predicted(Evidence):
    """Predictions for the samples `rows`, whose labels are `label`: probabilities of shape (rows, classes)."""

    rows: Ints
    label: Ints
    probability: Floats

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the likeliest class is the label."""
        found: npt.NDArray[np.bool_] = self.probability.argmax(1) == self.label
        return found

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(self.right.mean()) if len(self.rows) else 0.0

    @cached_property
    def balanced(self) -> float:
        """Mean recall over the classes that occur: 1/C for a guess, whatever their shares."""
        known = np.unique(self.label)
        return float(np.mean([self.right[self.label == label].mean() for label in known])) if len(known) else 0.0


@dataclass(frozen=True)
class SampleReference(Evidence):
    """`training`: out-of-fold predictions for training samples (copies stay in one fold). `evaluation`: those of the
    model of all training samples for the other splits; `own`: out-of-fold predictions among the other splits alone.
    `turned` is `training.probability` with red and blue exchanged in each image.
    """

    training: Predicted
    evaluation: Predicted
    own: Predicted
    classes: int
    turned: Floats | None = None


@probe
def sample_reference(samples: Samples) -> SampleReference:
    """Fit it: a few seconds for 20,000 samples."""
    from doctor.samples.images import exchanged
    from doctor.samples.reference import MOST, fitted, out_of_fold

    if not samples.classified:
        raise Unavailable("the samples have no classes")
    if not samples.features.size:
        raise Unavailable("the samples have no features that a simple model could learn from")
    meaning = _meaning(samples)
    labelled = samples.label[samples.featured] >= 0
    where = np.flatnonzero(labelled)
    is_training = np.isin(samples.featured, samples.training)
    training, evaluation = where[is_training[where]][:MOST], where[~is_training[where]][:MOST]
    classes = len(samples.labels)
    common = np.bincount(meaning[samples.label[samples.featured[training]]], minlength=classes)
    if (common >= 5).sum() < 2 or len(training) < 40:
        raise Unavailable("too few labelled samples for a reference model")

    def columns(rows: Ints) -> tuple[Floats, Ints, Ints]:
        chosen = samples.featured[rows]
        return samples.features[rows], meaning[samples.label[chosen]], samples.content[chosen]

    kind = samples.kind
    changed = exchanged(samples.features[training]) if kind == "image" else None
    probability, turned = out_of_fold(*columns(training), classes, kind, changed)
    seen = _predicted(samples, training, probability)
    model = fitted(*columns(training)[:2], kind)
    told = model(columns(evaluation)[0], classes) if len(evaluation) else np.zeros((0, classes), np.float32)
    counts = np.bincount(meaning[samples.label[samples.featured[evaluation]]], minlength=classes)
    enough = len(evaluation) >= 40 and (counts >= 5).sum() >= 2
    own = out_of_fold(*columns(evaluation), classes, kind)[0] if enough else np.zeros((0, classes), np.float32)
    return SampleReference(
        seen, _predicted(samples, evaluation, told), _predicted(samples, evaluation if enough else evaluation[:0], own),
        classes, turned,
    )  # fmt: skip


def _predicted(samples: Samples, places: Ints, probability: Floats) -> Predicted:
    rows = samples.featured[places]
    return Predicted(rows, _meaning(samples)[samples.label[rows]], probability)


def _meaning(samples: Samples) -> Ints:
    """For each label the first of its spellings: one class under two names is no contradiction."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(spelling(label), code) for code, label in enumerate(samples.labels)], np.int64)
