"""Pictures of images, recordings, texts and tensors: classes, simple measures by split, and the samples of findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doctor.evidence.audio_clips import AudioClips
from doctor.evidence.image_files import ImageFiles
from doctor.evidence.near_duplicates import NearDuplicates
from doctor.evidence.samples import Ints, Samples
from doctor.evidence.tensor_samples import TensorSamples
from doctor.evidence.text_records import TextRecords
from doctor.findings import Finding, RowPlace
from doctor.pictures.distributions import bars, histogram
from doctor.pictures.records import MOST_TILES, Illustration, Member, Picture, Tiles

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np

Record = ImageFiles | AudioClips | TextRecords | TensorSamples
# Shows one sample (by its index) or, of a file that could not be read, its place; None where it cannot be shown.
Show = Callable[[int | None, RowPlace], Member | None]
_MOST_LABELS = 200
_SAME = ("DAT002", "DAT003", "DAT005")


def sample_pictures(
    record: Record, near: NearDuplicates | None, findings: Sequence[Finding], show: Show
) -> Iterator[Illustration]:
    """What the samples look like as a whole, and those that each finding is about."""
    for picture in _overview(record):
        if picture is not None:
            yield Illustration(picture)
    samples = record.samples
    index = {(samples.splits[int(split)], name, int(row)): i for i, (split, name, row) in
             enumerate(zip(samples.split, samples.names, samples.row, strict=True))}  # fmt: skip
    for place, finding in enumerate(findings):
        tiles: list[tuple[Member, ...]] = []
        for row in finding.rows.first if finding.rows else ():
            if len(tiles) == MOST_TILES:
                break
            here = index.get((row.split, row.path or "", row.row))
            twin = _twin(samples, near, finding.rule, here) if here is not None else None
            shown = show(here, row if twin is None else row.model_copy(update={"value": None}))
            if shown is None:
                continue
            other = show(twin, _place(samples, twin)) if twin is not None else None
            tiles.append((shown, other) if other is not None else (shown,))
        if tiles:
            yield Illustration(Tiles(_title(finding, samples, len(tiles)), tuple(tiles)), place)


def _title(finding: Finding, samples: Samples, count: int) -> str:
    of = finding.rows.count if finding.rows else count
    return f"{count} of {of:,} {samples.unit}s" if of > count else f"the {samples.unit}{'s' * (count != 1)}"


def _place(samples: Samples, index: int) -> RowPlace:
    return RowPlace(
        split=samples.splits[int(samples.split[index])],
        row=int(samples.row[index]),
        path=samples.names[index],
        whole=samples.whole_files,
    )


def _twin(samples: Samples, near: NearDuplicates | None, rule: str, index: int) -> int | None:
    """The sample that this one is like, as far as the finding is about such."""
    if rule == "DAT004" and near is not None:
        at = np.flatnonzero(near.rows == index)
        return int(near.twins[at[0]]) if len(at) and near.twins[at[0]] >= 0 else None
    if rule not in _SAME or samples.content[index] < 0:
        return None
    alike = np.flatnonzero(samples.content == samples.content[index])
    alike = alike[alike != index]
    if rule == "DAT003":
        alike = alike[np.isin(alike, samples.training)]
    elif rule == "DAT002":
        alike = alike[(samples.split[alike] == samples.split[index]) & (samples.answer[alike] == samples.answer[index])]
    else:
        alike = alike[samples.answer[alike] != samples.answer[index]]
    return int(alike[0]) if len(alike) else None


def _overview(record: Record) -> Iterator[Picture | None]:
    samples = record.samples
    if 0 < len(samples.labels) <= _MOST_LABELS:
        yield bars("classes", {name: _labels(samples, rows) for name, rows in _splits(samples, samples.label >= 0)})
    if isinstance(record, ImageFiles):
        sound = record.channels > 0
        yield _measure(samples, "brightness", record.mean.mean(1), sound, "0 black to 255 white")
        yield _measure(samples, "contrast", record.std.mean(1), sound, "standard deviation of the pixels")
        yield _measure(samples, "width", record.sizes[:, 0], sound, "pixels")
        yield _measure(samples, "height", record.sizes[:, 1], sound, "pixels")
    elif isinstance(record, AudioClips):
        sound = record.rates > 0
        yield _measure(samples, "duration", record.seconds, sound, "seconds")
        loud = 20 * np.log10(np.maximum(record.rms, 1e-5))
        yield _measure(samples, "loudness", loud, sound, "dB below full scale")
        if record.transcripts:
            yield _measure(samples, "transcript length", record.letters, sound, "characters")
    elif isinstance(record, TextRecords):
        unit = "token ids" if record.form == "ids" else "characters"
        answers = record.answer_letters
        yield _measure(samples, "length of the input", record.letters, record.letters >= 0, unit)
        if record.form != "classified":
            yield _measure(samples, "length of the answer", answers, answers >= 0, "characters")
    else:
        known = np.isfinite(record.low) & np.isfinite(record.high)
        yield _measure(samples, "smallest value of a sample", record.low, known, "")
        yield _measure(samples, "largest value of a sample", record.high, known, "")


def _measure(samples: Samples, title: str, values: Any, known: Any, unit: str) -> Picture | None:
    numbers = np.asarray(values, np.float64)
    return histogram(title, {name: numbers[rows] for name, rows in _splits(samples, known)}, unit)


def _splits(samples: Samples, known: Any) -> Iterator[tuple[str, Ints]]:
    for number, name in enumerate(samples.splits):
        yield name, np.flatnonzero((samples.split == number) & known)


def _labels(samples: Samples, rows: Ints) -> Mapping[str, int]:
    counts = np.bincount(samples.label[rows], minlength=len(samples.labels))
    return {name: int(count) for name, count in zip(samples.labels, counts, strict=True)}
