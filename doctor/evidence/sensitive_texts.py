"""Personal data and secrets in the texts of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from doctor.errors import Unavailable
from doctor.evidence.audio_clips import AudioClips
from doctor.evidence.base import Evidence
from doctor.evidence.text_records import Place, TextRecords
from doctor.probes import probe


@dataclass(frozen=True)
class SensitiveText(Evidence):
    """One kind of data, and the places that hold it, each with its first value, masked."""

    kind: str
    personal: bool
    places: tuple[Place, ...]


@dataclass(frozen=True)
class SensitiveTexts(Evidence):
    """All kinds that were found, in `count` texts."""

    found: tuple[SensitiveText, ...]
    count: int


@probe
def sensitive_texts(texts: TextRecords | None, clips: AudioClips | None) -> SensitiveTexts:
    """Records were searched as they were read; transcripts are searched here."""
    if texts is not None:
        return SensitiveTexts(_grouped(texts.sensitive), texts.lines)
    if clips is None or not clips.transcripts:
        raise Unavailable("no texts")
    from doctor.samples.sensitive import sensitive

    samples = clips.samples
    hits = (
        (kind, personal, (samples.splits[int(samples.split[row])], samples.names[row], int(samples.row[row]), shown))
        for row, text in enumerate(clips.transcripts)
        for kind, personal, shown in sensitive(text)
    )
    return SensitiveTexts(_grouped(hits), samples.count)


def _grouped(hits: Iterable[tuple[str, bool, Place]]) -> tuple[SensitiveText, ...]:
    groups: dict[tuple[str, bool], list[Place]] = {}
    for kind, personal, place in hits:
        groups.setdefault((kind, personal), []).append(place)
    return tuple(SensitiveText(kind, personal, tuple(places)) for (kind, personal), places in groups.items())
