"""What is to be read: files of samples with their splits, labels and texts, found in folders and manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from doctor.samples.archives import Packed

IMAGES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jfif"])
AUDIO = frozenset([".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus", ".au"])
TEXT = frozenset((".jsonl", ".ndjson", ".json", ".txt"))
ARRAYS = frozenset((".npz", ".npy", ".pt", ".pth"))
TABLES = frozenset((".csv", ".tsv"))
PROSE = ".txt"


@dataclass(frozen=True, slots=True)
class Item:
    """One file: `name` as the report shows it; `label` and `text` (a transcript) as folder or manifest give them.

    `said` holds further facts of the manifest (`duration`, `sample_rate`), which the file may contradict.
    """

    path: Path | Packed
    name: str
    split: str | None
    label: str | None = None
    text: str | None = None
    said: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Layout:
    """The samples of one data set. `broken` are lines of manifests that could not be read, as name and reason.

    `documents` says that each file of texts is one sample, and not each of its lines.
    """

    kind: str
    items: tuple[Item, ...]
    root: Path
    broken: tuple[tuple[str, str], ...] = ()
    transcribed: bool = False
    documents: bool = False


def media_kind(suffix: str) -> str | None:
    """`image` or `audio` by a file's suffix in small letters; None for any other."""
    return "image" if suffix in IMAGES else "audio" if suffix in AUDIO else None
