"""How one sample is shown: read again from its file, made small, and masked where it is text."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from doctor.evidence.samples import Samples
from doctor.findings import RowPlace
from doctor.pictures.records import Member
from doctor.pictures.texts import excerpt
from doctor.samples.hub import Rows
from doctor.samples.items import Item, Layout

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
else:
    from doctor.lazy import numpy as np

_SIDE = 112  # pixels of a thumbnail at most
_QUALITY = 72  # of its JPEG
_LARGEST = 50_000_000  # bytes of a file that is read again
_STRETCHES = 120  # of a waveform
_LONGEST_LINE = 200_000  # characters of a record that are looked at


class Shower:
    """Shows the samples of a layout."""

    def __init__(self, layout: Layout, samples: Samples) -> None:
        self._layout, self._samples = layout, samples
        self._items = {item.name: item for item in layout.items}
        self._lines: dict[tuple[str, int], str | None] = {}

    def __call__(self, index: int | None, place: RowPlace) -> Member | None:
        """One sample; None where its kind cannot be shown, or its file cannot be read."""
        item = self._items.get(place.path or "")
        if item is None:
            return None
        note = _note(self._samples, index, place)
        if self._layout.kind == "image":
            return Member(item.name, note, image=thumbnail(item))
        if self._layout.kind == "audio":
            return Member(item.name, note, wave=waveform(item), text=excerpt(item.text) if item.text else None)
        if self._layout.kind == "text":
            if self._layout.documents:
                return Member(item.name, note, text=self._text(item, 0))
            return Member(f"{item.name} {place.row}", note, text=self._text(item, place.row))
        return None

    def _text(self, item: Item, row: int) -> str | None:
        from doctor.samples.scan_texts import lines_of

        key = (item.name, row)
        if key not in self._lines:
            found = next(islice(lines_of(item.path, self._layout.documents), row, row + 1), None)
            self._lines[key] = found[0][:_LONGEST_LINE] if found else None
        line = self._lines[key]
        return None if line is None else excerpt(_plain(line))


class RecordShower:
    """Shows the texts of live data sets that hold them as they are: lists of records, and those of the `datasets` library.

    Other live objects run the user's code for each sample, which is not done twice.
    """

    def __init__(self, by_split: Mapping[str | None, Any], samples: Samples) -> None:
        self._held = {
            split or "data": held for split, held in by_split.items() if isinstance(held, (list, tuple, Rows))
        }
        self._samples = samples

    def __call__(self, index: int | None, place: RowPlace) -> Member | None:
        """One sample; None where it is no text, or not to be had."""
        held = self._held.get(place.path or "")
        if held is None or not place.row < len(held) or not isinstance(record := held[place.row], Mapping):
            return None
        text = excerpt(" ¶ ".join(_texts(dict(record)))[:_LONGEST_LINE])
        return Member(f"{place.path} {place.row}", _note(self._samples, index, place), text=text)


def _note(samples: Samples, index: int | None, place: RowPlace) -> str:
    """A sample's split, its class, and what the finding says of it."""
    parts = [place.split if len(samples.splits) > 1 else ""]
    if index is not None and samples.label[index] >= 0 and samples.labels:
        label = excerpt(samples.labels[int(samples.label[index])], 40)
        parts.append("" if (place.value or "").startswith(label) else label)
    parts.append(place.value or "")
    return " · ".join(part for part in parts if part)


def thumbnail(item: Item) -> str | None:
    """A small picture as a data URI: JPEG, or PNG where that is smaller (or something is transparent)."""
    import PIL.Image

    try:
        content = item.path.read_bytes()
        if not content or len(content) > _LARGEST:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(io.BytesIO(content)) as opened:
                opened.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # JPEG decoders can give a smaller picture at once
                opened.load()
                return _encoded(opened)
    except Exception:  # what cannot be decoded is the finding
        return None


def _encoded(opened: PIL.Image.Image) -> str:
    import PIL.Image

    from doctor.samples.images import as_rgb

    see_through = "A" in opened.getbands() or (opened.mode == "P" and "transparency" in opened.info)
    small = opened.convert("RGBA") if see_through else as_rgb(opened)
    if max(small.size) > _SIDE:
        small.thumbnail((_SIDE, _SIDE), PIL.Image.Resampling.BOX)
    forms: list[tuple[str, bytes]] = []
    for form, options in (("png", {"optimize": True}), ("jpeg", {"quality": _QUALITY})):
        if form == "jpeg" and see_through:
            continue
        stream = io.BytesIO()
        small.save(stream, form, **options)
        forms.append((form, stream.getvalue()))
    form, content = min(forms, key=lambda pair: len(pair[1]))
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def waveform(item: Item) -> tuple[tuple[float, float], ...]:
    """The lowest and highest value of at most 120 stretches; empty where the file cannot be decoded."""
    import soundfile

    from doctor.samples.audio import opened

    try:
        with opened(item.path) as stream:
            frames = len(stream)
            if not 0 < frames <= _LARGEST:
                return ()
            values = stream.read(dtype="float32", always_2d=True).mean(1)
    except (OSError, RuntimeError, ValueError, soundfile.SoundFileError):
        return ()
    parts = np.array_split(values, min(_STRETCHES, len(values))) if len(values) else []
    bounded = (np.clip(np.nan_to_num(part), -1, 1) for part in parts)
    return tuple((round(float(part.min()), 3), round(float(part.max()), 3)) for part in bounded)


def _plain(line: str) -> str:
    """The texts of a JSON record, in their order; the line itself where it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    return " ¶ ".join(_texts(record)) or line


def _texts(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, str(name))
    elif isinstance(value, list):
        for inner in value[:50]:
            yield from _texts(inner, key)
    elif value is not None:
        yield f"{key}: {value}" if key else str(value)
