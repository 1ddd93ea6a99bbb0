"""How near each evaluation sample is to the training set, against how near training samples are to each other."""

from __future__ import annotations

import math
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

_MOST = 20_000  # training samples that are compared
_AT_ONCE = 1000  # images that are moved at a time
_CANDIDATES = 5  # training images that are tried with small movements
_ANCHORS = 1500  # training samples whose own neighbours say what is usual
# A distance below which two samples can be the same thing at all, by kind: pictures and spectra of unit length (0.2 is
# a correlation of 0.98), 1 less the overlap of texts, vectors of unit variance.
_CLOSE = {"image": 0.2, "audio": 0.25, "text": 0.4, "tensor": 0.15}


@dataclass(frozen=True)
class NearDuplicates(Evidence):
    """Evaluation samples `rows` (none is an exact copy), the training sample `twins` nearest to each, and the distance.

    `usual` are the distances of some training samples to their nearest other training sample; `close` is the distance
    below which two samples can be one and the same. Distances by kind: see `_CLOSE`.
    """

    rows: Ints
    twins: Ints
    distance: Floats
    usual: Floats
    close: float

    def threshold(self, chance: float) -> float:
        """The distance that a share `chance` of unrelated samples falls below.

        Distances to the nearest of many points follow a Weibull distribution, whose shape is the dimension of the data
        (Pestov 2000); it is fitted to the upper half of `usual`, which copies do not reach.
        """
        known = self.usual[np.isfinite(self.usual)]
        if len(known) < 20:
            return 0.0
        middle, high = np.quantile(known, (0.5, 0.85))
        if middle <= 0:
            return 0.0
        shape = 1.0068 / math.log(high / middle) if high > middle else math.inf  # ln ln(1/0.15) - ln ln 2
        fitted = float(middle) * (-math.log1p(-chance) / math.log(2)) ** (1 / shape)
        # Where training holds no siblings, what is clearly nearer than its nearest pair is more than near.
        apart = 0.85 * float(known.min())
        return float(min(max(fitted, apart), 0.5 * float(middle), self.close))


@probe
def near_duplicates(
    samples: Samples,
    images: ImageFiles | None,
    clips: AudioClips | None,
    texts: TextRecords | None,
    tensors: TensorSamples | None,
) -> NearDuplicates:
    """Compare all evaluation samples with (at most 20,000) training samples."""
    from doctor.samples.neighbours import nearest, nearest_sketches

    if not len(samples.evaluation):
        raise Unavailable("there is no second split")
    leaked = np.isin(samples.content, np.unique(samples.content[samples.training]))
    rows = samples.evaluation[(samples.content[samples.evaluation] >= 0) & ~leaked[samples.evaluation]]
    training = samples.training[samples.content[samples.training] >= 0]
    _, first = np.unique(samples.content[training], return_index=True)
    training = training[np.sort(first)]
    generator = np.random.default_rng(0)
    if len(training) > _MOST and texts is None:
        training = np.sort(generator.choice(training, _MOST, replace=False))
    anchors = np.sort(generator.choice(len(training), min(_ANCHORS, len(training)), replace=False))
    close = _CLOSE[samples.kind]
    if texts is not None:
        if texts.form == "ids":
            raise Unavailable("records of token ids are compared exactly only")
        where, distance = nearest_sketches(texts.sketches[rows], texts.sketches[training])
        _, usual = nearest_sketches(texts.sketches[training[anchors]], texts.sketches[training], anchors)
        return NearDuplicates(rows, _at(training, where), distance, usual, close)
    if images is not None:
        known = images.std.max(1) > 0.5
        rows, training = rows[known[rows]], training[known[training]]
        anchors = anchors[anchors < len(training)]
        where, distance = _moved(images, rows, training)
        _, usual = _moved(images, training[anchors], training, anchors)
        return NearDuplicates(rows, _at(training, where), distance, usual, close)
    vectors, known = _vectors(samples, clips, tensors)
    rows, training = rows[known[rows]], training[known[training]]
    anchors = anchors[anchors < len(training)]
    where, distance = nearest(vectors[rows], vectors[training])
    _, usual = nearest(vectors[training[anchors]], vectors[training], anchors)
    return NearDuplicates(rows, _at(training, where), distance, usual, close)


def _moved(images: ImageFiles, rows: Ints, training: Ints, apart: Ints | None = None) -> tuple[Ints, Floats]:
    """The training image that each comes nearest to by a small movement, scaling or turn, also mirrored, and how near."""
    from doctor.samples.alignment import aligned_distance, coarse, pictures_of
    from doctor.samples.neighbours import nearest_few

    known = coarse(pictures_of(images.thumbs[training]))
    where, distance = np.full(len(rows), -1, np.int64), np.full(len(rows), np.inf, np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        straight = pictures_of(images.thumbs[rows[part]])
        places = np.arange(len(straight))
        for pictures in (straight, straight[:, :, ::-1]):
            found = nearest_few(coarse(pictures), known, _CANDIDATES, None if apart is None else apart[part])
            few = found.shape[1]
            if not few:
                continue
            others = pictures_of(images.thumbs[training[found.ravel()]])
            apart_by = aligned_distance(np.repeat(pictures, few, 0), others).reshape(-1, few)
            best = apart_by.argmin(1)
            better = apart_by[places, best] < distance[part]
            where[part] = np.where(better, found[places, best], where[part])
            distance[part] = np.minimum(distance[part], apart_by[places, best])
    return where, distance


def _at(training: Ints, where: Ints) -> Ints:
    return np.where(where >= 0, training[where], -1) if len(training) else where


def _vectors(samples: Samples, clips: AudioClips | None, tensors: TensorSamples | None) -> tuple[Floats, np.ndarray]:
    """A row a sample, and which samples have one. Brightness and loudness are taken out; blanks have none."""
    if clips is not None:
        return _unit(clips.pictures)
    rows = np.zeros((samples.count, samples.features.shape[1]), np.float32)
    known = np.zeros(samples.count, bool)
    if tensors is not None and tensors.image:
        values, sound = _unit(samples.features)
    else:
        scale = samples.features.std(0) + 1e-9
        values = (samples.features - samples.features.mean(0)) / scale / math.sqrt(max(1, samples.features.shape[1]))
        sound = np.ones(len(values), bool)
    rows[samples.featured], known[samples.featured] = values, sound
    return rows, known


def _unit(values: Floats) -> tuple[Floats, np.ndarray]:
    centred = values - values.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    return centred / np.maximum(norms, 1e-9)[:, None], norms > 1e-6 * (np.abs(values).max(1) + 1e-9) * math.sqrt(
        values.shape[1]
    )
