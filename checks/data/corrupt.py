"""Samples that cannot be read, or that are not built like the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from doctor.evidence.audio_clips import AudioClips
from doctor.evidence.image_files import ImageFiles
from doctor.evidence.samples import Samples
from doctor.evidence.tensor_samples import TensorSamples
from doctor.evidence.text_records import Place, TextRecords, by_reason
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check, look

from ._samples import listed, listed_places, seen, units

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


class CorruptLimits(Limits):
    """Thresholds of DAT017."""

    odd_share: float = 0.02  # of the files have other channels: real photo collections hold up to 1 % of grey ones
    colourless: float = 3.0  # mean distance of the channels, of 255, below which an image has no colour
    colourless_share: float = 0.05
    blank_share: float = 0.1  # of the images are of one colour: more are masks rather than broken
    silent: float = 0.001  # peak amplitude (-60 dB)
    clipped: float = 0.01  # of a recording's samples in runs at full scale
    clipped_share: float = 0.05  # of the recordings
    rate_share: float = 0.005  # of the recordings have another sample rate
    uncommon: float = 0.2  # of the conversations: an order of roles that more have is meant


@check(
    "DAT017", "corrupt-sample", Severity.ERROR, faq=("training/data/incorrect", "training/data/missing"),
    faults=("corrupt-file", "inconsistent-channels", "inconsistent-sample-rate", "malformed-records", "empty-transcripts"),
)  # fmt: skip
def corrupt_images(images: ImageFiles, limits: CorruptLimits) -> Iterator[Finding]:
    """Samples cannot be decoded, or differ from the others in how they are stored.

    ## What it measures
    Every file is decoded wholly: images that are empty, cut off or no images; of other channels (grey or transparent
    among colour ones, from `odd_share`), or without colour among coloured ones of the same class. Recordings that are
    missing, cut off, silent, clipped, of another sample rate or number of channels than most, or without a transcript.
    Lines of text that are no JSON, lack a field or hold another type; conversations whose roles are out of order. Tensors of
    another shape, and samples that raise an error.
    ## Why it hurts
    Loading fails after hours, at the epoch that meets the file; or a loader repairs it silently into noise.
    ## Example
    ```python
    image = Image.open(path)
    x = to_tensor(image)
    ```
    ## Use instead
    ```python
    image = Image.open(path).convert("RGB")
    x = to_tensor(image)
    ```
    ## When it is right
    Folders that are grey throughout, photos of many sizes, and single grey photos in a large collection are silent.
    ## References
    torchvision.datasets.ImageFolder; Pillow, Image.verify and ImageFile.LOAD_TRUNCATED_IMAGES.
    """
    samples = images.samples
    yield from _unreadable(samples, images.errors, "images")
    decoded = images.decoded
    if not len(decoded):
        return
    yield from _odd_channels(images, limits)
    yield from _colourless(images, limits)
    blank = decoded[(images.std[decoded].max(1) < 0.5)]
    if 0 < len(blank) <= limits.blank_share * len(decoded):
        yield Finding(
            severity=Severity.WARNING,
            faults=("corrupt-file",),
            message=f"{units(samples, len(blank))} of {len(decoded):,} show one colour and nothing else",
            measured={"blank": Measure(value=len(blank), threshold=0)},
            rows=listed(samples, blank),
            remedy="leave them out, or take them again",
            **seen("every pixel has the same value"),
        )


def _unreadable(samples: Samples, errors: tuple[str, ...], what: str) -> Iterator[Finding]:
    rows = np.array([row for row, error in enumerate(errors) if error], np.int64)
    if len(rows):
        reasons = Counter(errors[row].partition(": ")[0] for row in rows)
        words = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(4))
        yield Finding(
            faults=("corrupt-file",),
            message=f"{len(rows):,} of {samples.count:,} {what} cannot be decoded ({words})",
            measured={"unreadable": Measure(value=len(rows), threshold=0)},
            rows=listed(samples, rows, [errors[row] for row in rows]),
            remedy="replace these files, or leave them out of the folder and the manifest",
            **seen("each file was decoded wholly"),
        )


def _odd_channels(images: ImageFiles, limits: CorruptLimits) -> Iterator[Finding]:
    samples, decoded = images.samples, images.decoded
    common = Counter(images.channels[decoded].tolist()).most_common(1)[0][0]
    odd = decoded[images.channels[decoded] != common]
    if not len(odd):
        return
    share = len(odd) / len(decoded)
    modes = Counter(images.modes[row] for row in decoded)
    words = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
    yield Finding(
        severity=Severity.ERROR if share >= limits.odd_share else Severity.INFO,
        faults=("inconsistent-channels",),
        message=f"{len(odd):,} of {len(decoded):,} images have other channels than the rest ({words})",
        measured={"share": Measure(value=share, threshold=limits.odd_share), **_counts(modes)},
        rows=listed(samples, odd, [images.modes[row] for row in odd]),
        remedy="take the grey ones again where their colour is lost, and convert all to one mode: image.convert('RGB')",
        **seen("a batch of them cannot be stacked without a conversion"),
    )


def _counts(modes: Counter[str]) -> dict[str, Measure]:
    return {f"mode {mode}": Measure(value=count) for mode, count in modes.items()}


def _colourless(images: ImageFiles, limits: CorruptLimits) -> Iterator[Finding]:
    """Colour images without colour, where their class has colour."""
    samples, decoded = images.samples, images.decoded
    stored = decoded[(images.channels[decoded] >= 3) & (images.std[decoded].max(1) >= 0.5)]
    grey = stored[images.saturation[stored] < limits.colourless]
    if not len(grey) or len(grey) > 0.4 * len(stored):
        return
    label = samples.label if samples.classified else np.zeros(samples.count, np.int64)
    usual = {value: np.median(images.saturation[stored[label[stored] == value]]) for value in np.unique(label[stored])}
    lost = np.array([row for row in grey if usual[label[row]] > 4 * limits.colourless], np.int64)
    if not len(lost):
        return
    share = len(lost) / len(stored)
    yield Finding(
        severity=Severity.WARNING if share >= limits.colourless_share else Severity.INFO,
        faults=("inconsistent-channels",),
        message=f"{len(lost):,} of {len(stored):,} colour images have no colour, though their class has",
        measured={"share": Measure(value=share, threshold=limits.colourless_share)},
        rows=listed(samples, lost),
        remedy="take them again in colour, or make all images grey",
        **seen("red, green and blue are equal in every pixel"),
    )


@look("DAT017")
def corrupt_recordings(clips: AudioClips, limits: CorruptLimits) -> Iterator[Finding]:
    """Recordings that are missing, cut off, silent, clipped, or of another rate; missing transcripts."""
    samples, decoded = clips.samples, clips.decoded
    yield from _unreadable(samples, clips.errors, "recordings")
    if clips.broken:
        yield Finding(
            faults=("malformed-records",),
            message=f"{len(clips.broken):,} lines of the manifest cannot be read ({clips.broken[0][0]}: {clips.broken[0][1]})",
            measured={"lines": Measure(value=len(clips.broken), threshold=0)},
            remedy="write these lines anew, with as many fields as the header names",
        )
    if clips.transcripts:
        empty = np.array([row for row, text in enumerate(clips.transcripts) if not text], np.int64)
        if len(empty):
            yield Finding(
                faults=("empty-transcripts",),
                message=f"{len(empty):,} of {samples.count:,} recordings have an empty transcript",
                measured={"empty": Measure(value=len(empty), threshold=0)},
                rows=listed(samples, empty),
                remedy="transcribe them, or leave them out: the model learns to say nothing",
                **seen("the field is empty"),
            )
    if not len(decoded):
        return
    yield from _odd(clips, "rates", "sample rate", "Hz", "inconsistent-sample-rate", limits)
    yield from _odd(clips, "channels", "number of channels", "channels", "inconsistent-channels", limits)
    said = decoded[np.isfinite(clips.said_rates[decoded]) & (clips.said_rates[decoded] != clips.rates[decoded])]
    if len(said):
        yield Finding(
            faults=("inconsistent-sample-rate",),
            message=f"{len(said):,} recordings have another sample rate than the manifest says",
            rows=listed(samples, said, [f"{clips.rates[row]} Hz" for row in said]),
            measured={"recordings": Measure(value=len(said), threshold=0)},
            remedy="resample the recordings, or correct the manifest",
            **seen("headers of the files"),
        )
    silent = decoded[clips.peaks[decoded] < limits.silent]
    if len(silent):
        yield Finding(
            severity=Severity.ERROR if len(silent) < 0.5 * len(decoded) else Severity.WARNING,
            faults=("corrupt-file",),
            message=f"{len(silent):,} of {len(decoded):,} recordings are silent",
            measured={"silent": Measure(value=len(silent), threshold=0)},
            rows=listed(samples, silent),
            remedy="leave them out, or record them again",
            **seen(f"no sample exceeds {limits.silent:g}"),
        )
    yield from _clipped(clips, limits)


def _odd(clips: AudioClips, column: str, what: str, unit: str, fault: str, limits: CorruptLimits) -> Iterator[Finding]:
    samples, decoded = clips.samples, clips.decoded
    values = getattr(clips, column)
    counts = Counter(values[decoded].tolist())
    if len(counts) < 2:
        return
    common = counts.most_common(1)[0][0]
    odd = decoded[values[decoded] != common]
    share = len(odd) / len(decoded)
    words = ", ".join(f"{count} of {value} {unit}" for value, count in counts.most_common(5))
    yield Finding(
        severity=Severity.ERROR if share >= limits.rate_share else Severity.INFO,
        faults=(fault,),
        message=f"{len(odd):,} of {len(decoded):,} recordings have another {what} than most ({words})",
        measured={"share": Measure(value=share, threshold=limits.rate_share)},
        rows=listed(samples, odd, [f"{values[row]} {unit}" for row in odd]),
        remedy=f"convert all recordings to one {what} before features are computed",
        **seen("headers of the files"),
    )


def _clipped(clips: AudioClips, limits: CorruptLimits) -> Iterator[Finding]:
    decoded = clips.decoded
    clipped = decoded[clips.clipped[decoded] >= limits.clipped]
    share = len(clipped) / len(decoded)
    if not len(clipped):
        return
    yield Finding(
        # Square waves and loud music are clipped throughout: a part that is clipped is a fault of recording.
        severity=Severity.WARNING if limits.clipped_share <= share <= 0.5 else Severity.INFO,
        faults=("corrupt-file",),
        message=f"{len(clipped):,} of {len(decoded):,} recordings are clipped: {limits.clipped:.0%} of their samples or more "
        f"stand at full scale",
        measured={"share": Measure(value=share, threshold=limits.clipped_share)},
        rows=listed(clips.samples, clipped),
        remedy="record at a lower level, or leave them out",
    )


@look("DAT017")
def malformed_records(texts: TextRecords, limits: CorruptLimits) -> Iterator[Finding]:
    """Lines that cannot be read, and conversations out of order."""
    if texts.malformed:
        yield Finding(
            faults=("malformed-records",),
            message=f"{len(texts.malformed):,} of {texts.lines:,} records are malformed: {_reasons(texts.malformed)}",
            measured={"records": Measure(value=len(texts.malformed), threshold=0)},
            rows=listed_places(texts.malformed, texts.lines),
            remedy="write these lines anew; a loader that skips them trains on less than you think",
            **seen("each line was parsed"),
        )
    odd = {
        place[:3]: place
        for groups in (texts.open_ended, texts.wrong_roles)
        for _, places in by_reason(groups)
        if len(places) <= limits.uncommon * texts.lines
        for place in places
    }
    if odd:
        yield Finding(
            faults=("malformed-records",),
            message=f"{len(odd):,} of {texts.lines:,} conversations are out of order: {_reasons(odd.values())}",
            measured={"conversations": Measure(value=len(odd) / texts.lines, threshold=limits.uncommon)},
            rows=listed_places(odd.values(), texts.lines),
            remedy="let user and assistant take turns, after one system message at most, and the assistant end",
            **seen("the roles as they follow each other"),
        )


def _reasons(places: Iterable[Place]) -> str:
    groups = by_reason(places)
    return ", ".join(f"{len(several)} {reason}" if len(groups) > 1 else reason for reason, several in groups[:5])


@look("DAT017")
def odd_tensors(tensors: TensorSamples, limits: CorruptLimits) -> Iterator[Finding]:
    """Samples of another shape, samples that raise, and samples without content."""
    samples = tensors.samples
    total = samples.count + len(tensors.failed)
    if tensors.failed:
        reasons = Counter(place[3] for place in tensors.failed)
        yield Finding(
            faults=("corrupt-file", "malformed-records"),
            message=f"{len(tensors.failed):,} of {total:,} samples raise an error ({reasons.most_common(1)[0][0]})",
            measured={"samples": Measure(value=len(tensors.failed), threshold=0)},
            rows=listed_places(tensors.failed, total),
            remedy="mend or leave out these samples",
            **seen("each sample was asked for once"),
        )
    counts = np.bincount(tensors.shape, minlength=1)
    common = int(counts.argmax())
    odd = np.flatnonzero(tensors.shape != common)
    if len(odd) and len(odd) <= 0.1 * samples.count and len(tensors.shapes) <= 4:
        words = ", ".join(f"{counts[i]} of {shape}" for i, shape in enumerate(tensors.shapes))
        yield Finding(
            faults=("inconsistent-channels", "corrupt-file"),
            message=f"{len(odd):,} of {samples.count:,} samples have another shape or type than the rest ({words})",
            measured={"samples": Measure(value=len(odd), threshold=0)},
            rows=listed(samples, odd, [tensors.shapes[int(tensors.shape[row])] for row in odd]),
            remedy="bring all samples to one shape and type",
            **seen("a batch of them cannot be stacked"),
        )
    blank = tensors.constant
    if tensors.image and 0 < len(blank) <= limits.blank_share * samples.count:
        yield Finding(
            severity=Severity.WARNING,
            faults=("corrupt-file",),
            message=f"{len(blank):,} of {samples.count:,} samples have one value and nothing else",
            measured={"blank": Measure(value=len(blank), threshold=0)},
            rows=listed(samples, blank),
            remedy="leave them out, or take them again",
            **seen("every value is the same"),
        )
