"""Whether inputs and targets go together as they are paired, and whether they would if moved by a few places."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.errors import Unavailable
from doctor.evidence.audio_clips import AudioClips
from doctor.evidence.base import Evidence
from doctor.evidence.sample_reference import Predicted, SampleReference
from doctor.evidence.samples import Ints, Samples
from doctor.evidence.text_records import TextRecords
from doctor.probes import probe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    from doctor.lazy import numpy as np

LAGS = (-3, -2, -1, 1, 2, 3)
_LEAST = 40
_MOST_SHIFTED = 3000  # samples for which moved labels are tried


@dataclass(frozen=True)
class SplitAlignment:
    """One split. `straight` is how well inputs tell targets as they are paired, `chance` what unrelated ones give, both
    in `measure`; `spread` is the standard deviation of the latter. `at_lag` is the best of the same with targets moved by
    `lag` places. `segment` are rows (first, last) in stored order whose targets do not fit while those of others do.
    """

    split: str
    measure: str
    samples: int
    straight: float
    chance: float
    spread: float
    lag: int = 0
    at_lag: float = 0.0
    segment: tuple[int, int] | None = None
    segment_misfit: float = 0.0
    other_misfit: float = 0.0

    @property
    def errors(self) -> float:
        """By how many standard deviations pairing is better than chance."""
        return (self.straight - self.chance) / max(self.spread, 1e-9)

    @property
    def errors_at_lag(self) -> float:
        """The same with targets moved."""
        return (self.at_lag - self.chance) / max(self.spread, 1e-9) if self.lag else 0.0


@dataclass(frozen=True)
class SampleAlignment(Evidence):
    """Alignment by split, and recordings (`outliers`) whose transcripts are far too long or too short for them."""

    splits: tuple[SplitAlignment, ...]
    outliers: Ints


@probe
def sample_alignment(
    samples: Samples, reference: SampleReference | None, clips: AudioClips | None, texts: TextRecords | None
) -> SampleAlignment:
    """By a reference model (classes), durations and lengths (transcripts), or common words (answers)."""
    found: list[SplitAlignment] = []
    outliers = np.zeros(0, np.int64)
    if clips is not None and clips.transcripts:
        found, outliers = _spoken(samples, clips)
    elif texts is not None and texts.overlap is not None:
        found = _worded(samples, texts.overlap)
    if reference is not None and not found:
        both = ((reference.training, 0.0), (reference.own, reference.evaluation.balanced))
        found = [one for told, other in both if (one := _classified(samples, told, other, reference))]
    if not found:
        raise Unavailable("nothing tells whether inputs and targets go together")
    return SampleAlignment(tuple(found), outliers)


def _classified(
    samples: Samples, told: Predicted, otherwise: float, reference: SampleReference
) -> SplitAlignment | None:
    """By `told` or by what the model of another split reaches on this one, `otherwise`, if that is more."""
    from doctor.samples.reference import ridge_guesses

    counts = np.bincount(told.label)
    counts = counts[counts > 0]
    if len(told.rows) < _LEAST or len(counts) < 2 or np.sort(counts)[-2] < 15:
        return None
    known = len(counts)
    chance = 1 / known
    spread = math.sqrt(chance * (1 - chance) * float((1 / counts).sum())) / known
    straight = max(told.balanced, otherwise)
    lag, at_lag = 0, 0.0
    mixed = not _sorted(told.label)
    segment, inside, outside = None, 0.0, 0.0
    if straight < chance + 5 * spread and mixed:
        where = np.searchsorted(samples.featured, told.rows[:_MOST_SHIFTED])
        x = samples.features[where]
        labels = [np.roll(told.label[:_MOST_SHIFTED], move) for move in LAGS]
        for move, moved, guess in zip(LAGS, labels, ridge_guesses(x, labels, reference.classes), strict=True):
            balanced = float(np.mean([(guess[moved == label] == label).mean() for label in np.unique(moved)]))
            if balanced > at_lag:
                lag, at_lag = move, balanced
    elif mixed and straight > chance + 0.3 * (1 - chance):
        segment, inside, outside = _segment(~told.right, 1 - chance)
    split = samples.splits[int(samples.split[told.rows[0]])]
    rows = (int(told.rows[segment[0]]), int(told.rows[segment[1]])) if segment else None
    return SplitAlignment(
        split, "mean recall of a reference model", len(told.rows), straight, chance, spread, lag, at_lag, rows, inside,
        outside,
    )  # fmt: skip


def _sorted(label: Ints) -> bool:
    """Whether labels come in blocks, so that moving them by a place changes few."""
    _, counts = np.unique(label, return_counts=True)
    expected = 1 - float(((counts / len(label)) ** 2).sum())
    return float((label[1:] != label[:-1]).mean()) < 0.3 * expected


def _segment(misfit: npt.NDArray[np.bool_], rate: float) -> tuple[tuple[int, int] | None, float, float]:
    """The run of samples that most likely has the rate of misfits of unrelated pairs, if one surely has."""
    width = max(20, len(misfit) // 5)
    best = float(np.convolve(misfit, np.ones(width) / width, "valid").min()) if len(misfit) >= width else 1.0
    usual = min(max(best, 0.02), 0.6 * rate)
    score = np.where(misfit, math.log(rate / usual), math.log((1 - rate + 1e-3) / (1 - usual)))
    total = np.concatenate(([0.0], np.cumsum(score)))
    low = np.minimum.accumulate(total)
    end = int(np.argmax(total - low))
    start = int(np.argmin(total[: end + 1]))
    length = end - start
    if length < max(25, 0.02 * len(misfit)) or length > 0.9 * len(misfit) or total[end] - total[start] < 18:
        return None, 0.0, 0.0
    inside, rest = float(misfit[start:end].mean()), np.delete(misfit, slice(start, end))
    outside = float(rest.mean()) if len(rest) else 0.0
    return ((start, end - 1), inside, outside) if inside > 0.75 * rate and outside < 0.5 * inside else (None, 0.0, 0.0)


def _spoken(samples: Samples, clips: AudioClips) -> tuple[list[SplitAlignment], Ints]:
    found = []
    outliers: list[int] = []
    for code, split in enumerate(samples.splits):
        rows = np.flatnonzero((samples.split == code) & (clips.rates > 0) & (clips.letters > 0) & (clips.seconds > 0))
        if len(rows) < _LEAST:
            continue
        seconds, letters = np.log(clips.seconds[rows]), np.log(clips.letters[rows])
        if seconds.std() < 0.12 or letters.std() < 0.12:
            continue  # clips of one length
        straight = float(np.corrcoef(seconds, letters)[0, 1])
        by_lag = {lag: float(np.corrcoef(seconds, np.roll(letters, lag))[0, 1]) for lag in LAGS}
        lag = max(by_lag, key=lambda move: by_lag[move])
        pace = letters - seconds
        pace = pace - np.median(pace)
        typical = float(np.median(np.abs(pace))) * 1.4826
        segment, inside, outside = None, 0.0, 0.0
        if straight > 0.3:
            far = np.abs(pace) > max(3 * np.median(np.abs(pace)), 0.15)
            spread_out = np.abs(np.random.default_rng(0).permutation(letters) - seconds - np.median(letters - seconds))
            unrelated = float((spread_out > max(3 * np.median(np.abs(pace)), 0.15)).mean())
            if unrelated > 0.2:
                segment, inside, outside = _segment(far, unrelated)
        rows_of = (int(rows[segment[0]]), int(rows[segment[1]])) if segment else None
        found.append(
            SplitAlignment(
                split,
                "correlation of duration and length of the transcript",
                len(rows),
                straight,
                0.0,
                1 / math.sqrt(len(rows)),
                lag,
                by_lag[lag],
                rows_of,
                inside,
                outside,
            )
        )
        if straight > 0.3:
            outliers += rows[np.abs(pace) > max(1.0, 5 * typical)].tolist()
    return found, np.array(outliers, np.int64)


def _worded(
    samples: Samples, overlap: tuple[Ints, npt.NDArray[np.float32], npt.NDArray[np.float32]]
) -> list[SplitAlignment]:
    """Words that prompts share with their answers, against those of answers of other prompts."""
    found = []
    kept, prompts, answers = overlap
    generator = np.random.default_rng(0)
    for code, split in enumerate(samples.splits):
        rows = np.flatnonzero(samples.split[kept] == code)
        if len(rows) < _LEAST:
            continue
        asked, said = prompts[rows], answers[rows]

        def common(order: Ints, asked: npt.NDArray[np.float32] = asked, said: npt.NDArray[np.float32] = said) -> float:
            return float(np.einsum("ij,ij->i", asked, said[order]).mean())

        places = np.arange(len(rows))
        null = [common(generator.permutation(len(rows))) for _ in range(30)]
        by_lag = {lag: common(np.roll(places, lag)) for lag in LAGS}
        lag = max(by_lag, key=lambda move: by_lag[move])
        found.append(
            SplitAlignment(
                split,
                "common words of prompt and answer",
                len(rows),
                common(places),
                float(np.mean(null)),
                float(np.std(null)) + 1e-6,
                lag,
                by_lag[lag],
            )
        )
    return found
