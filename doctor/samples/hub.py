"""Data sets of the `datasets` library, live or saved to disk: told by their columns to be images, recordings, texts or a table.

Saved ones are read from their Arrow files; the library itself is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from doctor.errors import DoctorError
from doctor.samples.archives import Packed
from doctor.samples.items import Item, Layout
from doctor.samples.manifests import LABELS, TEXTS
from doctor.samples.records import IDS, form_of
from doctor.samples.splits import of_word
from doctor.samples.targets import known_target

_INFO, _STATE, _SPLITS = "dataset_info.json", "state.json", "dataset_dict.json"
_MEDIA = {"Image": "image", "Audio": "audio"}
_SHAPED = ("Array2D", "Array3D", "Array4D", "Array5D", "Video")
_PEEKED = 50


@dataclass(frozen=True)
class Rows:
    """The rows of one split as dictionaries, nothing in them decoded; classes by their names.

    `table` is an Arrow table, or a live data set that gives such. `kinds` are the columns' types (`Value`, `ClassLabel`,
    `Image` ...), `classes` the names by column.
    """

    table: Any
    kinds: Mapping[str, str]
    classes: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        """How many rows."""
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = self.table.slice(index, 1) if hasattr(self.table, "slice") else self.table[index : index + 1]
        row: dict[str, Any] = part.to_pylist()[0]
        for name, known in self.classes.items():
            if isinstance(row.get(name), int):
                row[name] = known[row[name]] if 0 <= row[name] < len(known) else None
        return row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows in order."""
        return (self[index] for index in range(len(self)))

    @cached_property
    def media(self) -> str | None:
        """The column of images or recordings."""
        return next((name for name, kind in self.kinds.items() if kind in _MEDIA), None)

    def as_table(self) -> Any:
        """All rows as an Arrow table."""
        return self.table if hasattr(self.table, "slice") else self.table[:]


def of_live(content: Any) -> Rows | None:
    """A `datasets.Dataset`; None for anything else, and for one whose rows the user transforms."""
    if type(content).__module__.partition(".")[0] != "datasets" or not hasattr(content, "with_format"):
        return None
    if not hasattr(content, "__len__") or not getattr(content, "features", None):
        return None  # streamed
    if (getattr(content, "format", None) or {}).get("type") == "custom":
        return None
    kinds = {str(name): type(feature).__name__ for name, feature in content.features.items()}
    classes = {str(n): tuple(f.names) for n, f in content.features.items() if type(f).__name__ == "ClassLabel"}
    return Rows(content.with_format("arrow"), kinds, classes)


def is_saved(path: Path) -> bool:
    """Whether a folder is what `save_to_disk` makes."""
    return (path / _SPLITS).is_file() or ((path / _STATE).is_file() and (path / _INFO).is_file())


def of_saved(path: Path) -> dict[str | None, Rows]:
    """The splits of a saved data set; None names the only one. Raises DoctorError for files that are broken."""
    if not (path / _SPLITS).is_file():
        return {of_word(path.name): _saved(path)}
    names = _json(path / _SPLITS).get("splits", [])
    return {of_word(name) or str(name): _saved(path / str(name)) for name in names}


def _saved(folder: Path) -> Rows:
    import pyarrow

    features = _json(folder / _INFO).get("features") or {}
    tables = []
    for part in _json(folder / _STATE).get("_data_files", []):
        file = folder / str(part.get("filename"))
        try:
            with pyarrow.memory_map(str(file)) as stream:
                tables.append(pyarrow.ipc.open_stream(stream).read_all())
        except (pyarrow.ArrowInvalid, OSError) as failure:
            raise DoctorError(f"{file} cannot be read as Arrow ({failure})", "is it cut off?") from None
    if not tables:
        raise DoctorError(f"{folder} names no files of data", "save it again with save_to_disk")
    kinds = {name: str(one.get("_type", "List")) if isinstance(one, dict) else "List" for name, one in features.items()}
    classes = {name: tuple(features[name]["names"]) for name, kind in kinds.items() if kind == "ClassLabel"}
    return Rows(pyarrow.concat_tables(tables), kinds, classes)


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise DoctorError(f"{path} cannot be read: {failure}", "save it again with save_to_disk") from None
    return read if isinstance(read, dict) else {}


def is_table(rows: Rows, target: str | None) -> bool:
    """Whether the rows are those of a table: no media, no arrays, no texts of a known form."""
    if any(kind in (*_MEDIA, *_SHAPED) for kind in rows.kinds.values()):
        return False
    if any(name in (*IDS, "pixel_values", "input_values") for name in rows.kinds):
        return False
    return form_of([rows[i] for i in range(min(_PEEKED, len(rows)))], target) is None


def media_layout(by_split: Mapping[str | None, Rows], target: str | None, root: Path) -> Layout:
    """The images or recordings of all splits, with the labels and transcripts of the other columns."""
    first = next(iter(by_split.values()))
    column = first.media
    assert column is not None
    kind = _MEDIA[first.kinds[column]]
    names = [name for name in first.kinds if name != column]
    known_target(target, names, "the data set")
    text = next((name for name in names if name.lower() in TEXTS and name != target), None) if kind == "audio" else None
    label = target or next((n for n in names if n in first.classes), None)
    label = label or next((n for n in names if n.lower() in LABELS and n != text), None)
    items = []
    for split, rows in by_split.items():
        others = Rows(_without(rows, column), rows.kinds, rows.classes)
        for index, row in enumerate(others):
            name = f"{split or 'data'}/{index}"
            packed = Packed(root, PurePosixPath(name), lambda r=rows, i=index: _content(r[i][column]))  # type: ignore[misc]
            said = None if label is None or row.get(label) is None else str(row[label])
            items.append(Item(packed, name, of_word(split) or split, said, str(row.get(text) or "") if text else None))
    return Layout(kind, tuple(items), root, transcribed=text is not None)


def _without(rows: Rows, column: str) -> Any:
    """The table without the column whose values are large."""
    table = rows.table
    return table.drop_columns([column]) if hasattr(table, "slice") else table.remove_columns([column])


def _content(value: Any) -> bytes:
    if isinstance(value, Mapping):
        held, path = value.get("bytes"), value.get("path")
        if held is not None:
            return bytes(held)
        if path:
            return Path(path).read_bytes()
    raise OSError("there is none")
