"""Recognising what stands in a folder or a manifest: class folders, flat folders, lists of files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from doctor.errors import DoctorError
from doctor.samples import manifests, splits
from doctor.samples.archives import is_archive
from doctor.samples.items import ARRAYS, PROSE, TABLES, Item, Layout, media_kind
from doctor.samples.packed import of_archives
from doctor.samples.prose import delimited

_CORPORA = 12  # files of prose that are taken line by line; of more, each is a document
_MANIFESTS = 12  # files of a folder that are opened to see whether they list recordings or images
# A path and the split that the user gave it, None where it is to be found out.
Given = Sequence[tuple[Path, str | None]]


def recognise(given: Given, target: str | None = None) -> Layout | None:
    """The files of samples behind these paths; None where they hold a table.

    Raises DoctorError for a path that does not exist and for an empty folder.
    """
    for path, _ in given:
        if not path.exists():
            raise DoctorError(f"no such file or folder: {path}")
    root = _root([path for path, _ in given])
    given = [(inner, split) for path, split in given for inner in (_shards(path) or [path])]
    if all(is_archive(path) for path, _ in given):
        return of_archives(given, root, target)
    if all(path.is_file() for path, _ in given):
        return _of_files(given, root, target)
    files = {path: [(found, split) for found in _walk(path)] for path, split in given}
    counted: Counter[str] = Counter(_kind(file) for found in files.values() for file, _ in found)
    media = max(("image", "audio"), key=lambda kind: counted[kind])
    if counted[media]:
        lists = [(f, s) for found in files.values() for f, s in found if f.suffix.lower() in (*TABLES, ".jsonl")]
        lists += [(f, s) for found in files.values() for f, s in found if f.name.endswith(".trans.txt")]
        listed = _of_files(lists, root, target) if lists else None
        if listed is not None and listed.kind == media:
            return listed
        return _of_folders(files, root, media)
    tables = [(f, s) for found in files.values() for f, s in found if f.suffix.lower() in TABLES]
    if tables and len(tables) <= _MANIFESTS:  # a manifest whose files are all missing is none the less one
        listed = _of_files(tables, root, target)
        if listed is not None and listed.kind in ("image", "audio"):
            return listed
    for kind in ("text", "tensor"):
        if counted[kind] and counted[kind] >= counted["table"]:
            found = [pair for several in files.values() for pair in several if _kind(pair[0]) == kind]
            return Layout(kind, tuple(_whole_file(path, root, split) for path, split in found), root)
    if counted["prose"] and not counted["table"]:
        return _of_prose(files, root)
    if not counted:
        raise DoctorError(f"{given[0][0]} holds no files", "give a folder of samples, a manifest or a table")
    return None


def _shards(path: Path) -> list[Path]:
    """The archives of a folder that holds nothing else of a kind that is read."""
    found = list(_walk(path)) if path.is_dir() else []
    return [file for file in found if is_archive(file)] if all(_kind(file) == "other" for file in found) else []


def _of_files(given: Given, root: Path, target: str | None) -> Layout | None:
    kinds = {_kind(path) for path, _ in given}
    if kinds == {"tensor"}:
        return Layout("tensor", tuple(_whole_file(path, root, split) for path, split in given), root)
    if kinds <= {"image", "audio"} and len(kinds) == 1:
        return Layout(kinds.pop(), tuple(_whole_file(path, root, split) for path, split in given), root)
    read = [manifests.read(path, split or splits.of_stem(path.stem), root, target) for path, split in given]
    listed = [one for one in read if one is not None]
    if listed:
        kind = Counter(one.kind for one in listed).most_common(1)[0][0]
        return Layout(
            kind,
            tuple(item for one in listed if one.kind == kind for item in one.items),
            root,
            tuple(line for one in listed for line in one.broken),
            any(one.transcribed for one in listed),
        )
    if kinds == {"prose"}:
        if any(delimited(path) for path, _ in given):
            return None  # a table by another name
        return Layout("text", tuple(_whole_file(path, root, split) for path, split in given), root)
    if kinds == {"text"} or all(path.suffix.lower() == ".json" for path, _ in given):
        return Layout("text", tuple(_whole_file(path, root, split) for path, split in given), root)
    return None


def _of_prose(files: dict[Path, list[tuple[Path, str | None]]], root: Path) -> Layout | None:
    """Folders of prose: a few files are corpora of one text a line; many, or a folder a class, are documents."""
    found = [pair for several in files.values() for pair in several if _kind(pair[0]) == "prose"]
    by_folder = _of_folders(files, root, "prose")
    classes = {item.label for item in by_folder.items} - {None}
    if len(classes) > 1 or len(found) > _CORPORA:
        return replace(by_folder, kind="text", documents=True)
    return _of_files(found, root, None)


def _of_folders(files: dict[Path, list[tuple[Path, str | None]]], root: Path, kind: str) -> Layout:
    items = []
    for top, found in files.items():
        for path, split in found:
            if _kind(path) != kind:
                continue
            inside = path.relative_to(top)
            named = splits.of_word(top.name) if len(files) > 1 or splits.of_word(top.name) else None
            items.append(
                Item(path, shown(path, root), split or splits.of_folders(inside) or named, splits.class_folder(inside))
            )
    classes = {item.label for item in items}
    if len(classes) < 2:
        items = [replace(item, label=None) for item in items]
    return Layout(kind, tuple(items), root)


def _whole_file(path: Path, root: Path, split: str | None) -> Item:
    inside = path.relative_to(root) if path.is_relative_to(root) else PurePath(path.name)
    return Item(path, shown(path, root), split or splits.of_stem(path.stem) or splits.of_folders(inside))


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    media = media_kind(suffix)
    if media is not None:
        return media
    if suffix in (".jsonl", ".ndjson"):
        return "text"
    if suffix == PROSE:
        return "prose"
    if suffix in ARRAYS:
        return "tensor"
    return "table" if suffix in TABLES or suffix in (".parquet", ".arrow", ".feather") else "other"


def _walk(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
        return
    for folder, inner, names in os.walk(top, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__")))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _root(paths: Iterable[Path]) -> Path:
    folders = [path if path.is_dir() else path.parent for path in paths]
    if len(folders) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))


def shown(path: Path, root: Path) -> str:
    """A path as the report names it: below the folder that was given."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    resolved = path.resolve()
    return resolved.relative_to(root.resolve()).as_posix() if resolved.is_relative_to(root.resolve()) else str(path)
