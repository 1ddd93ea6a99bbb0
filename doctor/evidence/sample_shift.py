"""How the samples of two splits differ: simple quantities of each sample, and a model that tells the splits apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.errors import Unavailable
from doctor.evidence.audio_clips import AudioClips
from doctor.evidence.base import Evidence
from doctor.evidence.image_files import ImageFiles
from doctor.evidence.samples import Floats, Ints, Samples
from doctor.evidence.tensor_samples import TensorSamples
from doctor.evidence.text_records import TextRecords
from doctor.probes import probe

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np

_MOST = 3000  # samples a split


@dataclass(frozen=True)
class Moved(Evidence):
    """One quantity: the Kolmogorov-Smirnov distance of its distributions, its medians, and the standard error of the
    distance.
    """

    quantity: str
    distance: float
    training: float
    other: float
    error: float


@dataclass(frozen=True)
class SplitShift(Evidence):
    """One split against training. `auc` is that of a model which tells the splits apart by the samples' features (0.5:
    it cannot; NaN: not tried), `moved` are all quantities, the farthest first.
    """

    split: str
    training: int
    samples: int
    auc: float
    moved: tuple[Moved, ...]


@dataclass(frozen=True)
class SampleShift(Evidence):
    """All splits against training."""

    splits: tuple[SplitShift, ...]


@probe
def sample_shift(
    samples: Samples,
    images: ImageFiles | None,
    clips: AudioClips | None,
    texts: TextRecords | None,
    tensors: TensorSamples | None,
) -> SampleShift:
    """Measure it."""
    if not len(samples.evaluation):
        raise Unavailable("there is no second split")
    quantities, known = _quantities(samples, images, clips, texts, tensors)
    own = samples.split[samples.training[0]] if len(samples.training) else 0
    found = []
    for code, name in enumerate(samples.splits):
        one = np.flatnonzero((samples.split == own) & known)
        other = np.flatnonzero((samples.split == code) & known)
        if code == own or len(other) < 20 or len(one) < 20:
            continue
        moved = [
            _moved(quantity, values[one], values[other])
            for quantity, values in quantities.items()
            if values[one].std() > 0 or values[other].std() > 0
        ]
        moved.sort(key=lambda item: -item.distance)
        far = moved and moved[0].distance > 0.2
        auc = _told_apart(samples, one, other) if far else float("nan")
        found.append(SplitShift(name, len(one), len(other), auc, tuple(moved)))
    return SampleShift(tuple(found))


def _quantities(
    samples: Samples,
    images: ImageFiles | None,
    clips: AudioClips | None,
    texts: TextRecords | None,
    tensors: TensorSamples | None,
) -> tuple[dict[str, Floats], np.ndarray]:
    if images is not None:
        red, green, blue = images.mean.T
        return {
            "brightness": images.mean.mean(1),
            "contrast": images.std.mean(1),
            "red over blue": red - blue,
            "green over red and blue": green - (red + blue) / 2,
        }, images.channels > 0
    if clips is not None:
        return {
            "loudness": np.log10(clips.rms + 1e-6),
            "duration": clips.seconds,
        }, clips.rates > 0
    if texts is not None:
        return {"length of the text": texts.letters.astype(np.float32)}, np.ones(samples.count, bool)
    rows, known = np.zeros((samples.count, 2), np.float32), np.zeros(samples.count, bool)
    known[samples.featured] = True
    if samples.features.size:
        rows[samples.featured] = np.stack((samples.features.mean(1), samples.features.std(1)), 1)
    named = {"mean": rows[:, 0], "deviation": rows[:, 1]}
    if tensors is not None and not tensors.image and not tensors.ids and samples.features.shape[1] <= 64:
        wide = np.zeros((samples.count, samples.features.shape[1]), np.float32)
        wide[samples.featured] = samples.features
        named = {f"feature {index}": wide[:, index] for index in range(wide.shape[1])}
    return named, known


def _moved(quantity: str, one: Floats, other: Floats) -> Moved:
    both = np.sort(np.concatenate((one, other)))
    first = np.searchsorted(np.sort(one), both, "right") / len(one)
    second = np.searchsorted(np.sort(other), both, "right") / len(other)
    distance = float(np.abs(first - second).max())
    error = float(np.sqrt((len(one) + len(other)) / (len(one) * len(other))))
    return Moved(quantity, distance, float(np.median(one)), float(np.median(other)), error)


def _told_apart(samples: Samples, one: Ints, other: Ints) -> float:
    from doctor.samples.reference import out_of_fold

    place = {int(row): index for index, row in enumerate(samples.featured)}
    rows = [[place[int(row)] for row in several[:_MOST] if int(row) in place] for several in (one, other)]
    if min(map(len, rows)) < 20:
        return float("nan")
    x = samples.features[rows[0] + rows[1]]
    y = np.repeat((0, 1), (len(rows[0]), len(rows[1]))).astype(np.int64)
    told = out_of_fold(x, y, np.arange(len(y)), 2, "text" if samples.kind == "text" else samples.kind)[0][:, 1]
    ranks = told.argsort().argsort() + 1
    positive = y == 1
    pairs = positive.sum() * (~positive).sum()
    return float((ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2) / pairs)
