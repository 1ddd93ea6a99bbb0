"""A data set as a subject: which files or objects it is made of, what they hold, and which splits they are."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError
from doctor.evidence.data_source import TEST, TRAIN, VALID, DataSource, DataSplit
from doctor.samples import archives, hub
from doctor.samples.archives import is_archive
from doctor.samples.prose import delimited
from doctor.samples.source import SampleSource, files_of_samples, holds_samples
from doctor.subjects.declared_data import declared, names_data

TABLES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow",
    ".feather": "arrow", ".ipc": "arrow", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
PACKED = (".gz", ".zst", ".bz2")
TENSORS = {".npz": "npz", ".npy": "npz", ".pt": "pt", ".pth": "pt"}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
AUDIO = (".wav", ".flac", ".ogg", ".mp3")
TEXT = (".txt",)
# Words of file and folder names that say which split it is.
NAMES = {
    "train": TRAIN, "training": TRAIN, "valid": VALID, "validation": VALID, "val": VALID, "dev": VALID,
    "test": TEST, "testing": TEST, "eval": TEST, "holdout": TEST,
}  # fmt: skip
CHAT_KEYS = ({"messages"}, {"conversations"}, {"prompt", "completion"}, {"instruction", "output"}, {"prompt", "chosen"})
GUESSED_TARGETS = ("target", "label", "class", "y")


@dataclass(frozen=True)
class DataOptions:
    """What the user says about a data set beside its place."""

    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    target: str | None = None
    split_column: str | None = None
    sample: int | None = None
    memory_limit: str | None = None
    tokenizer: str | None = None
    max_length: int | None = None

    @property
    def given(self) -> bool:
        """Whether anything was said, which makes the subject a data set whatever its name."""
        return self != DataOptions()


def is_data(target: str) -> bool:
    """Whether this names a data set by its form: a table or tensors, a folder or a pattern that holds such.

    `.pt` is a model as often as data: its names decide. `.txt` may be anything: it counts only where an option says that
    a data set is meant.
    """
    if target.endswith(".py") or ".py:" in target:
        return names_data(target)
    if any(sign in target for sign in "*?["):
        return not Path(target).exists()
    path = Path(target)
    if is_archive(path) and path.is_file():
        return any(form_of(name) is not None for name in archives.names(path))
    if path.is_dir():
        if hub.is_saved(path):
            return True
        if any(is_archive(file) and is_data(str(file)) for file in path.iterdir()):
            return True
        files = _data_files(path)
        prose = len(files) > 1 and not any(path.glob("*.py"))  # one alone is a note, and beside scripts they are notes
        return prose or any(form_of(file.name) != "text" for file in files)
    if form_of(target) == "pt":
        from doctor.samples.packed_names import holds_samples_by_name

        return path.is_file() and holds_samples_by_name(path)
    return form_of(target) not in (None, "text")


def form_of(path: str) -> str | None:
    """The form of a file by its name: `csv`, `parquet`, `images` ...; None when it is no data."""
    name = path.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    suffix = Path(name).suffix
    if suffix in TABLES or suffix in TENSORS:
        return (TABLES | TENSORS)[suffix]
    return "images" if suffix in IMAGES else "audio" if suffix in AUDIO else "text" if suffix in TEXT else None


def dataset(paths: Sequence[str], options: DataOptions | None = None) -> DataSource:
    """The data set in these files, folders and patterns.

    Raises DoctorError when a path does not exist, is empty, or when they hold nothing that is data.
    """
    options = options or DataOptions()
    if len(paths) == 1 and ".py:" in paths[0]:
        return dataset_of(declared(paths[0]), options)
    if len(paths) == 1 and hub.is_saved(Path(paths[0])):
        return _hub(hub.of_saved(Path(paths[0])), options, Path(paths[0]))
    named = {TRAIN: options.train, VALID: options.valid, TEST: options.test}
    given: list[tuple[Path, str | None]] = [(Path(path), None) for path in paths]
    given += [(Path(path), name) for name, several in named.items() for path in several]
    given = [(one, name) for path, name in given for one in _shards(path)]
    layout = files_of_samples(given, options.target) if given else None
    if layout is not None:
        return _samples(SampleSource(layout, {}, options.target, options.tokenizer, options.max_length), options)
    files: dict[str, list[str]] = {name: _expanded(several) for name, several in named.items() if several}
    for path in paths:
        for name, found in _by_split(path, len(paths)).items():
            files.setdefault(name, []).extend(found)
    if not files:
        raise DoctorError("no data was named", "give a file, a folder or a pattern such as data/*.parquet")
    if len(paths) > 1 and len(files) == 1 and "data" in files and len(files["data"]) == 2:
        raise DoctorError(
            f"which of {' and '.join(files['data'])} is for training is not told by their names",
            "give --train and --test",
        )
    splits = tuple(_split(name, found) for name, found in sorted(files.items(), key=lambda item: _order(item[0])))
    return _source(splits, options)


def _shards(path: Path) -> list[Path]:
    """The archives that a pattern stands for; the path itself where it is no pattern of archives."""
    if path.exists() or not is_archive(path):
        return [path]
    return [Path(found) for found in sorted(glob.glob(str(path), recursive=True))] or [path]


def dataset_of(objects: Any, options: DataOptions | None = None) -> DataSource:
    """The data set of a live frame or dataset, of several by split name (`{"train": ..., "test": ...}`), or of paths."""
    options = options or DataOptions()
    by_split = objects if isinstance(objects, Mapping) else {None: objects}
    live = {NAMES.get(str(name).lower(), name): hub.of_live(held) for name, held in by_split.items()}
    rows = {name: one for name, one in live.items() if one is not None}
    if rows and len(rows) == len(by_split):
        return _hub(rows, options, Path())
    if by_split and all(holds_samples(held) for held in by_split.values()):
        named = {NAMES.get(str(name).lower(), str(name)) if name else None: held for name, held in by_split.items()}
        source = SampleSource(None, named, options.target, options.tokenizer, options.max_length, options.sample)
        return _samples(source, options)
    if isinstance(objects, (str, Path)):
        return dataset([str(objects)], options)
    if isinstance(objects, Mapping) and _named_paths(objects):
        paths: dict[str, Any] = {NAMES[str(name).lower()]: (str(path),) for name, path in objects.items()}
        return dataset([], replace(options, **paths))
    if isinstance(objects, Mapping):
        splits = []
        for name, content in objects.items():
            known = NAMES.get(str(name).lower(), str(name))
            if isinstance(content, (str, Path)):
                splits.append(_split(known, _expanded([str(content)])))
            else:
                splits.append(DataSplit(known, (), "object", content))
        return _source(tuple(sorted(splits, key=lambda split: _order(split.name))), options)
    if isinstance(objects, (list, tuple)) and objects and all(isinstance(one, (str, Path)) for one in objects):
        return dataset([str(one) for one in objects], options)
    return _source((DataSplit("data", (), "object", objects),), options)


def _hub(rows: Mapping[str | None, hub.Rows], options: DataOptions, root: Path) -> DataSource:
    """A data set of the `datasets` library, as what its columns make it."""
    first = next(iter(rows.values()), None)
    if first is None or not any(len(one) for one in rows.values()):
        raise DoctorError("the data set is empty", "a data set needs rows")
    if first.media is not None:
        source = SampleSource(hub.media_layout(rows, options.target, root), {}, options.target)
        return _samples(source, options)
    if hub.is_table(first, options.target):
        splits = [DataSplit(name or "data", (), "object", one.as_table()) for name, one in rows.items()]
        return _source(tuple(sorted(splits, key=lambda split: _order(split.name))), options)
    source = SampleSource(None, rows, options.target, options.tokenizer, options.max_length, options.sample)
    return _samples(source, options)


def _named_paths(objects: Mapping[Any, Any]) -> bool:
    """Whether these are paths of splits, such as the command line takes."""
    names = [NAMES.get(str(name).lower()) for name in objects]
    return (
        None not in names
        and len(set(names)) == len(names)
        and all(isinstance(p, (str, Path)) for p in objects.values())
    )


def _samples(source: SampleSource, options: DataOptions) -> DataSource:
    """A data set of samples that are no rows: they are read in one pass of their own."""
    if source.layout is None:
        splits = [DataSplit(name or "data", (), "object", held) for name, held in source.objects.items()]
    else:
        names = dict.fromkeys(item.split or TRAIN for item in source.layout.items)
        files = {name: tuple(str(i.path) for i in source.layout.items if (i.split or TRAIN) == name) for name in names}
        splits = [DataSplit(name, held, source.kind) for name, held in files.items()]
    return DataSource(source.kind, tuple(splits), options.target, samples=source)


def _source(splits: tuple[DataSplit, ...], options: DataOptions) -> DataSource:
    return DataSource(
        kind_of(splits[0]), splits, options.target, options.split_column, options.sample, options.memory_limit
    )


def _order(name: str) -> int:
    return (TRAIN, VALID, TEST).index(name) if name in (TRAIN, VALID, TEST) else -1


def kind_of(split: DataSplit) -> str:
    """What the samples of a split are, by the form of the files and by what their first line holds."""
    if split.form in ("npz", "pt"):
        return "tensors"
    if split.form == "jsonl" and split.files:
        keys = _first_keys(split.files[0])
        return "chat" if any(wanted <= keys for wanted in CHAT_KEYS) else "table"
    return split.form if split.form in ("images", "audio", "text") else "table"


def _first_keys(path: str) -> set[str]:
    try:
        with Path(path).open("rb") as lines:
            first = json.loads(next(iter(lines), b"{}"))
    except (OSError, ValueError):
        return set()
    return set(first) if isinstance(first, dict) else set()


def _expanded(paths: Iterable[str]) -> list[str]:
    found: list[str] = []
    for path in paths:
        found += [file for several in _by_split(path, 1, named=True).values() for file in several]
    return found


def _by_split(target: str, among: int, named: bool = False) -> dict[str, list[str]]:
    """The files that a path stands for, by split; `named` when an option has told the split already."""
    path = Path(target)
    if path.is_dir():
        found = _data_files(path)
        if not found:
            raise DoctorError(f"{target} holds no data", "give tables, tensors, images or audio files")
        splits: dict[str, list[str]] = {}
        for one in found:
            word = "data" if named else _split_word(one.relative_to(path).as_posix())
            splits.setdefault(word, []).append(str(one))
        return splits
    matches = [target] if path.exists() else sorted(glob.glob(target, recursive=True))
    if not matches:
        raise DoctorError(f"there is no {target}", _near(path))
    splits = {}
    for file in matches:
        if form_of(file) is None and not _looks_like_a_table(file):
            raise DoctorError(f"{file} is no data that can be read", "give CSV, Parquet, Arrow, JSONL, npz or a folder")
        word = "data" if named or (among == 1 and len(matches) == 1) else _split_word(Path(file).name)
        splits.setdefault(word, []).append(file)
    return splits


def _near(path: Path) -> str:
    from difflib import get_close_matches

    there = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, there, n=1)
    return f"did you mean {path.with_name(near[0])}?" if near else "give an existing file, folder or pattern"


def _split_word(name: str) -> str:
    """The split that a relative path names, folders first: `test/cat/1.png`, `train-00001.parquet`, `my_val.csv`."""
    for part in name.lower().split("/"):
        for word in part.replace(".", " ").replace("-", " ").replace("_", " ").split():
            if word in NAMES:
                return NAMES[word]
    return "data"


def _data_files(folder: Path) -> list[Path]:
    """The data below a folder: of the forms found only the one that has most files (a class folder of images may hold a
    table beside them, a folder of tables a read-me).
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "_")))
    forms = Counter(form for path in files if (form := form_of(path.name)) is not None)
    if len(forms) > 1:
        forms.pop("text", None)
    if not forms:
        return []
    most = forms.most_common(1)[0][0]
    return [path for path in files if form_of(path.name) == most]


def _looks_like_a_table(path: str) -> bool:
    with Path(path).open("rb") as content:
        return content.read(4) in (b"PAR1", b"ARRO")


def _split(name: str, files: list[str]) -> DataSplit:
    if not files:
        raise DoctorError(f"no file of the split {name}")
    for file in files:
        if Path(file).stat().st_size == 0:
            raise DoctorError(f"{file} is empty", "a data set needs rows")
    forms = {_content_form(file) for file in files}
    if len(forms) > 1:
        raise DoctorError(f"the split {name} mixes {' and '.join(sorted(forms))}", "give files of one form")
    return DataSplit(name, tuple(files), forms.pop())


def _content_form(file: str) -> str:
    """The form by content where it has a signature, by name elsewhere."""
    with Path(file).open("rb") as content:
        head = content.read(8)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1":
        return "arrow"
    form = form_of(file) or "csv"
    if form == "text" and delimited(Path(file)):
        return "csv"
    if form in ("parquet", "arrow") and head[:4] != b"\xff\xff\xff\xff":
        raise DoctorError(
            f"{file} is no {form.title()} file (it begins with {head[:4]!r})", "is it cut off or renamed?"
        )
    return form
