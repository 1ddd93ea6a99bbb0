"""The source of a data set: its splits, where they lie and what they hold; every other record about it is read there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from doctor.errors import Unavailable
from doctor.evidence.base import Given

if TYPE_CHECKING:
    from doctor.samples.source import SampleSource
    from doctor.tables.tables import Tables

TRAIN, VALID, TEST = "train", "valid", "test"


@dataclass(frozen=True)
class DataSplit:
    """One split of a data set.

    `name` is `train`, `valid`, `test`, or `data` where the set has no splits. `files` are in reading order, of one
    `form`: `csv`, `tsv`, `parquet`, `arrow`, `jsonl`, `npz`, `pt`, `images`, `audio`, `text`; or `object`, a live frame or
    dataset of the caller's in `content`, which is read in place and is no part of what is serialised.
    """

    name: str
    files: tuple[str, ...] = ()
    form: str = "csv"
    content: Any = field(default=None, repr=False, compare=False)

    def file_of(self, row: int, rows_by_file: tuple[int, ...]) -> tuple[str | None, int]:
        """The file that holds a row of this split, and the row's number in that file (both from 0)."""
        for file, rows in zip(self.files, rows_by_file, strict=False):
            if row < rows:
                return file, row
            row -= rows
        return None, row


@dataclass(frozen=True)
class DataSource(Given):
    """A data set as a subject. `kind` is what its samples are: `table`, `tensors`, `images`, `audio`, `text`, `chat`.

    `target` is the column to be predicted, `split_column` the one that names each row's split, `sample` the number of
    rows to look at (None: all), `memory_limit` what the engine may use (`2GB`).
    """

    kind: str
    splits: tuple[DataSplit, ...]
    target: str | None = None
    split_column: str | None = None
    sample: int | None = None
    memory_limit: str | None = None
    notes: tuple[str, ...] = ()
    # Where the samples are no rows of a table (images, recordings, texts, tensors): how they are read.
    samples: SampleSource | None = field(default=None, repr=False, compare=False)

    def split(self, name: str) -> DataSplit | None:
        """The split of this name."""
        return next((split for split in self.splits if split.name == name), None)

    @property
    def tabular(self) -> bool:
        """Whether the rows of a table are to be had (also of a manifest, or of chats in lines)."""
        return self.samples is None and all(
            split.form in ("csv", "tsv", "parquet", "arrow", "jsonl", "object") for split in self.splits
        )

    @cached_property
    def tables(self) -> Tables:
        """The splits as tables of the engine that reads them; raises Unavailable where the samples are no rows."""
        from doctor.tables.opening import opened

        if not self.tabular:
            raise Unavailable(f"no table, but {self.kind}")
        return opened(self)
