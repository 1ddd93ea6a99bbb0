"""A data set of samples that are no rows: what is to be read, and the one pass that reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doctor.progress import Progress, SilentProgress
from doctor.samples.items import Layout

if TYPE_CHECKING:
    from doctor.evidence.audio_clips import AudioClips
    from doctor.evidence.image_files import ImageFiles
    from doctor.evidence.tensor_samples import TensorSamples
    from doctor.evidence.text_records import TextRecords

    Record = ImageFiles | AudioClips | TextRecords | TensorSamples

_FRAMES = ("pandas", "polars", "pyarrow", "duckdb", "narwhals", "pyspark", "dask", "modin", "ibis")


@dataclass(frozen=True)
class SampleSource:
    """Files by a `layout`, or live `objects` by split. `most` bounds the samples that are taken of an object.

    `tokenizer` is a folder (or the name of an installed package that holds one), `length` the tokens that the model takes.
    """

    layout: Layout | None = None
    objects: Mapping[str | None, Any] = field(default_factory=dict)
    target: str | None = None
    tokenizer: str | None = None
    length: int | None = None
    most: int | None = None
    _read: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """What the samples are, as a report says it."""
        return {"image": "images", "audio": "audio", "text": "text", "tensor": "tensors"}[self.layout.kind] if (
            self.layout
        ) else "objects"  # fmt: skip

    def read(self, progress: Progress | None = None) -> Record:
        """Read it, the first time that it is asked for; raises DoctorError for what cannot be read at all."""
        if not self._read:
            self._read.append(self._scan(progress or SilentProgress()))
        record: Record = self._read[0]
        return record

    def _scan(self, progress: Progress) -> Record:
        from doctor.samples.tokens import Tokenizing

        tokenizing = Tokenizing(self.tokenizer, self.length) if self.tokenizer else None
        if self.layout is None:
            from doctor.samples.scan_objects import MOST_SAMPLES, scan_objects

            return scan_objects(self.objects, progress, self.target, tokenizing, self.most or MOST_SAMPLES)
        if self.layout.kind == "image":
            from doctor.samples.scan_images import scan_images

            return scan_images(self.layout, progress)
        if self.layout.kind == "audio":
            from doctor.samples.scan_audio import scan_audio

            return scan_audio(self.layout, progress)
        if self.layout.kind == "text":
            from doctor.samples.scan_texts import scan_texts

            return scan_texts(self.layout, progress, self.target, tokenizing)
        from doctor.samples.scan_arrays import scan_arrays

        return scan_arrays(self.layout, progress, self.target)


def files_of_samples(given: Sequence[tuple[Path, str | None]], target: str | None) -> Layout | None:
    """The layout of these paths; None where they hold a table (also jsonl whose lines are no texts)."""
    from doctor.samples.layout import recognise

    if any(not path.exists() for path, _ in given):
        return None  # a pattern, or a mistake: the reader of tables says which
    layout = recognise(given, target)
    if layout is not None and layout.kind == "text":
        from doctor.samples.scan_texts import recognised

        return layout if recognised(layout, target) else None
    return layout


def holds_samples(content: Any) -> bool:
    """Whether a live object gives samples one by one (a torch data set, a loader, a list of pairs), and is no table."""
    if type(content).__module__.partition(".")[0] in _FRAMES or isinstance(content, (str, Path, Mapping)):
        return False
    if isinstance(content, (list, tuple)):
        return bool(content) and not isinstance(content[0], (str, Path))
    return hasattr(content, "__iter__") or (hasattr(content, "__getitem__") and hasattr(content, "__len__"))
