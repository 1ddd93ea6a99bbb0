"""Lists of files with transcripts or labels: csv, tsv and jsonl, `ID text` lines and `id|text` lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from doctor.samples import splits
from doctor.samples.items import AUDIO, IMAGES, Item, Layout
from doctor.samples.targets import known_target

_PATHS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path", "audio_filepath",
    "audio_file", "wav", "wav_path", "wav_filename", "wav_file", "clip", "utterance_path", "image", "image_path", "img",
    "img_path", "image_file", "image_filename", "id", "utt_id", "utterance_id",
)  # fmt: skip
TEXTS = (
    "transcript", "transcription", "text", "sentence", "normalized_text", "caption", "utterance", "words", "ref",
)  # fmt: skip
LABELS = ("label", "class", "target", "category", "class_name", "class_id", "intent", "species", "y")
_SPLITS = ("split", "subset", "set", "partition")
_FACTS = {"duration": "duration", "duration_s": "duration", "length_s": "duration", "sample_rate": "sample_rate",
          "sampling_rate": "sample_rate", "sr": "sample_rate"}  # fmt: skip
_LINE = "\0line"  # the key under which a row keeps its 1-based line
_LOOKED_AT = 60  # rows from which the columns are recognised
_FOLDERS = ("", "clips", "wavs", "wav", "audio", "images", "imgs", "data", "files", "recordings")


def read(path: Path, split: str | None, root: Path, target: str | None) -> Layout | None:
    """The files that a manifest lists; None where it lists none."""
    rows, broken = _rows(path)
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows[:_LOOKED_AT] for key in row))
    found = _path_column(rows[:_LOOKED_AT], columns, path.parent)
    if found is None:
        return None
    column, kind, folder, suffix = found
    known_target(target, [name for name in columns if name != _LINE], path.name)
    text = _named(columns, TEXTS) if kind == "audio" else None
    label = target if target in columns and target != text else _named(columns, LABELS)
    by_split = _named(columns, _SPLITS)
    if by_split and not any(splits.of_word(row.get(by_split)) for row in rows[:_LOOKED_AT]):
        by_split = None
    facts = [(key, fact) for key, fact in _FACTS.items() if key in columns]
    items = []
    for row in rows:
        value = row.get(column)
        if value in (None, ""):
            broken.append((f"{path.name}:{row[_LINE]}", f"no {column}"))
            continue
        file = _resolved(str(value), folder, suffix)
        own = splits.of_word(row.get(by_split)) if by_split else None
        said = tuple((fact, number) for key, fact in facts if (number := _number(row.get(key))) is not None)
        items.append(
            Item(
                file,
                str(value),
                own or split,
                _text(row.get(label)) if label else None,
                (_text(row.get(text)) or "") if text else None,
                said,
            )
        )
    return Layout(kind, tuple(items), root, tuple(broken), text is not None)


def _rows(path: Path) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The rows as dictionaries, with their 1-based line under a key of its own; lines that are broken."""
    content = path.read_bytes()
    text = content.decode("utf-8-sig", "replace")
    if path.name.endswith(".trans.txt"):
        return _spoken(text), []
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return _json_lines(path, text)
    first = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max("\t|;,", key=first.count)
    if not first.count(delimiter):
        return [], []
    stream = io.StringIO(text, newline="")
    reader = (
        csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        if delimiter in "\t|"
        else csv.reader(stream, delimiter=delimiter)
    )
    rows: list[dict[str, Any]] = []
    broken: list[tuple[str, str]] = []
    try:
        table = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as failure:
        return [], [(f"{path.name}:{reader.line_num}", str(failure))]
    header = [name.strip() for name in table[0][1]]
    if delimiter == "|" and not {name.lower() for name in header} & {*_PATHS, *TEXTS}:
        header, table = ["id", "text", "normalized_text"][: len(header)], [(0, []), *table]  # LJSpeech has no header
    for line, fields in table[1:]:
        if len(fields) != len(header):
            broken.append((f"{path.name}:{line}", f"{len(fields)} fields instead of {len(header)}"))
            continue
        rows.append({**dict(zip(header, fields, strict=True)), _LINE: line})
    return rows, broken


def _json_lines(path: Path, text: str) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    rows: list[dict[str, Any]] = []
    broken: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as failure:
            broken.append((f"{path.name}:{number}", f"no JSON: {failure}"))
            continue
        if isinstance(row, dict):
            rows.append({**row, _LINE: number})
        else:
            broken.append((f"{path.name}:{number}", "no JSON object"))
    return rows, broken


def _spoken(text: str) -> list[dict[str, Any]]:
    """LibriSpeech: an utterance's id, a space, its transcript."""
    lines = (line.partition(" ") for line in text.splitlines())
    return [{"id": key, "text": said, _LINE: number} for number, (key, _, said) in enumerate(lines, 1) if key]


def _path_column(
    rows: Sequence[dict[str, Any]], columns: Iterable[str], here: Path
) -> tuple[str, str, Path, str] | None:
    """The column that names files, their kind, the folder that they are relative to, and a suffix that it leaves out."""
    order = sorted(columns, key=lambda name: _PATHS.index(name.lower()) if name.lower() in _PATHS else len(_PATHS))
    for column in order:
        values = [str(row[column]) for row in rows if isinstance(row.get(column), str) and row[column]]
        if len(values) < 0.5 * len(rows):
            continue
        for kind, suffixes in (("audio", AUDIO), ("image", IMAGES)):
            if sum(Path(value).suffix.lower() in suffixes for value in values) > 0.7 * len(values):
                return column, kind, _folder(values, here, ""), ""
        if column.lower() in _PATHS:
            for suffix in (".wav", ".flac", ".mp3", ".png", ".jpg"):
                folder = _folder(values[:5], here, suffix)
                if _resolved(values[0], folder, suffix).is_file():
                    return column, "audio" if suffix in AUDIO else "image", folder, suffix
    return None


def _folder(values: Sequence[str], here: Path, suffix: str) -> Path:
    """Where most of the files are: next to the list, in a usual folder beside it, or one level up."""
    tops = [top / name for top in (here, here.parent) for name in _FOLDERS]
    hits = {top: sum(_resolved(value, top, suffix).is_file() for value in values) for top in tops}
    return max(tops, key=lambda top: hits[top])


def _resolved(value: str, folder: Path, suffix: str) -> Path:
    return folder / (value.replace("\\", "/") + suffix)


def _named(columns: Iterable[str], names: Sequence[str]) -> str | None:
    known = {column.lower(): column for column in columns}
    return next((known[name] for name in names if name in known), None)


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
