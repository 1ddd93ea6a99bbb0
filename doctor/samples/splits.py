"""Which split a path, a file name or a value of a column means."""

from __future__ import annotations

import re
from pathlib import PurePath

_WORDS = {
    "train": ("train", "training", "trn"),
    "valid": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"),
}
_MEANING = {word: split for split, words in _WORDS.items() for word in words}


def of_word(text: object) -> str | None:
    """The split that a value of a split column names."""
    return _MEANING.get(str(text).strip().lower())


def of_stem(stem: str) -> str | None:
    """The split in a file's name or an array's: the last word that means one (`cv-valid-train` is train)."""
    found = [_MEANING[part] for part in re.split(r"[^a-z]+", stem.lower()) if part in _MEANING]
    return found[-1] if found else None


def of_folders(path: PurePath) -> str | None:
    """The split that the first folder of a relative path names."""
    for part in path.parts[:-1]:
        split = of_word(part) or (of_stem(part) if re.search(r"[-_.]", part) else None)
        if split:
            return split
    return None


def is_split_folder(name: str) -> bool:
    """Whether a folder holds a split rather than a class."""
    return of_word(name) is not None or of_stem(name) is not None


def class_folder(inside: PurePath) -> str | None:
    """The class folder of a relative path: the one that holds the file, unless it is that of a split."""
    folders = [part for part in inside.parts[:-1] if not is_split_folder(part)]
    return folders[-1] if folders else None


def ordered(found: set[str]) -> tuple[str, ...]:
    """Split names, training first."""
    rank = {"train": 0, "valid": 1, "test": 2}
    return tuple(sorted(found, key=lambda split: (rank.get(split, 3), split)))
