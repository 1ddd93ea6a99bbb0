"""All recordings of a layout as evidence."""

from __future__ import annotations

import numpy as np

from doctor.evidence.audio_clips import AudioClips
from doctor.progress import Progress
from doctor.samples.audio import BANDS, SLOTS, needed, read_clip
from doctor.samples.columns import Columns
from doctor.samples.items import Layout
from doctor.samples.reading import each

# As many different transcripts as words that are to be told apart: each is a class.
_MOST_WORDS, _PER_WORD = 60, 5


def scan_audio(layout: Layout, progress: Progress) -> AudioClips:
    """Read every recording once; raises DoctorError when soundfile is missing."""
    needed()
    items = layout.items
    count = len(items)
    progress.start("reading recordings", count)
    said = [item.text.strip() if item.text else "" for item in items] if layout.transcribed else []
    words = {text for text in said if text}
    classes = bool(words) and len(words) <= _MOST_WORDS and len(said) >= _PER_WORD * len(words)
    columns = Columns("audio", "recording", count)
    rates, channels = np.zeros(count, np.int64), np.zeros(count, np.int64)
    seconds, peaks, rms, clipped = (np.zeros(count, np.float32) for _ in range(4))
    said_seconds, said_rates = np.full(count, np.nan, np.float32), np.full(count, np.nan, np.float32)
    pictures = np.zeros((count, BANDS * SLOTS), np.float32)
    errors = []
    for index, (item, clip) in enumerate(
        zip(items, each(lambda item: read_clip(item.path), items, progress), strict=True)
    ):
        text = said[index] if said else None
        label = item.label if item.label is not None else (text or None if classes else None)
        columns.add(item.name, item.split, label, clip.content or None, text or None, clip.features)
        errors.append(clip.error or "")
        facts = dict(item.said)
        said_seconds[index] = facts.get("duration", np.nan)
        said_rates[index] = facts.get("sample_rate", np.nan)
        if clip.error is None and clip.picture is not None:
            rates[index], channels[index], seconds[index] = clip.rate, clip.channels, clip.seconds
            peaks[index], rms[index], clipped[index] = clip.peak, clip.rms, clip.clipped
            pictures[index] = clip.picture
    progress.finish()
    return AudioClips(
        columns.samples(), tuple(errors), rates, channels, seconds, peaks, rms, clipped, said_seconds, said_rates,
        tuple(said), np.array([len(text) for text in said], np.int64), pictures, layout.broken,
    )  # fmt: skip
