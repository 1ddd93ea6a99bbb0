"""A copy-on-write overlay over the file system: what the program would write goes to a scratch folder.

Paths outside the scratch folder, the system's temporary folder and the device files are mapped to
`scratch/overlay/<absolute path>` when they are written; from then on the program sees the mapped file. Deleted files
are only remembered as deleted. Nothing of the user's is created, changed or removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import MutableMapping

_FREE = ("/dev", "/proc", "/sys")


class Sandbox:
    """The mapping; `doctor.observe.redirections` puts it in front of the functions that touch files."""

    def __init__(self, scratch: str, guarded: tuple[str, ...] = ()) -> None:
        # The user's own folders are guarded also where they lie below the system's temporary folder.
        self._guarded = tuple(os.path.realpath(folder) for folder in (os.getcwd(), *guarded))
        self._scratch = os.path.realpath(scratch)
        self.root = os.path.join(os.path.realpath(scratch), "overlay")
        os.makedirs(self.root, exist_ok=True)
        self._free = tuple({os.path.realpath(tempfile.gettempdir()), os.path.realpath(scratch), *_FREE})
        self._mapped: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._redirections: object = None

    @property
    def written(self) -> list[tuple[str, str]]:
        """The user's paths and where they really are."""
        return sorted(self._mapped.items())

    def install(self) -> None:
        """Put the overlay in front of Python's file functions, and of torch's and safetensors' once imported."""
        from doctor.observe.redirections import Redirections

        self._redirections = Redirections(self)

    # -- the mapping; paths are absolute and not resolved beyond os.path.abspath -----------------------------------

    def absolute(self, path: object) -> str | None:
        """The absolute path, or None for what is no path (a descriptor)."""
        if isinstance(path, int) or path is None:
            return None
        try:
            text = os.fsdecode(path)  # type: ignore[arg-type]
        except TypeError:
            return None
        return os.path.normpath(os.path.join(os.getcwd(), text))

    def is_free(self, absolute: str) -> bool:
        """Whether writing there is none of our business."""
        if absolute == self._scratch or absolute.startswith(self._scratch + os.sep):
            return True
        if any(absolute == folder or absolute.startswith(folder + os.sep) for folder in self._guarded):
            return False
        return any(absolute == free or absolute.startswith(free + os.sep) for free in self._free)

    def is_touched(self) -> bool:
        """Whether any path differs from the real file system."""
        return bool(self._mapped or self._deleted)

    def is_deleted(self, absolute: str) -> bool:
        """Whether the program removed this path, or a folder above it, and did not make it again."""
        if absolute in self._mapped:
            return False
        while absolute and absolute != os.sep:
            if absolute in self._deleted:
                return True
            absolute = os.path.dirname(absolute)
        return False

    def reading(self, path: object) -> str | None:
        """Where to read this path instead; None to leave it as it is; raises FileNotFoundError when deleted."""
        if not self.is_touched():
            return None
        absolute = self.absolute(path)
        if absolute is None:
            return None
        mapped = self._mapped.get(absolute)
        if mapped is not None:
            return mapped
        if self.is_deleted(absolute):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return None

    def writing(self, path: object, keep: bool) -> str | None:
        """Where to write this path instead, with the old content copied there when `keep`; None to leave it."""
        absolute = self.absolute(path)
        if absolute is None or self.is_free(absolute):
            return None
        mapped = self._mapped.get(absolute)
        if mapped is None:
            parent = os.path.dirname(absolute)
            if parent not in self._mapped and (self.is_deleted(parent) or not _real_isdir(parent)):
                raise FileNotFoundError(2, "No such file or directory", str(path))
            mapped = self.root + absolute
            _real_makedirs(os.path.dirname(mapped))
            if keep and not self.is_deleted(absolute) and _real_isfile(absolute):
                _real_copy(absolute, mapped)
        self._mapped[absolute] = mapped
        self._deleted.discard(absolute)
        return mapped

    def making(self, path: object) -> str | None:
        """Where to make this folder instead; raises FileExistsError and FileNotFoundError as the real one would."""
        absolute = self.absolute(path)
        if absolute is None or self.is_free(absolute):
            return None
        if absolute in self._mapped or (not self.is_deleted(absolute) and _real_lexists(absolute)):
            raise FileExistsError(17, "File exists", str(path))
        parent = os.path.dirname(absolute)
        if parent not in self._mapped and (self.is_deleted(parent) or not _real_isdir(parent)):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        mapped = self.root + absolute
        _real_makedirs(mapped)
        # A folder that was removed and made again is empty: what really lies in it stays hidden.
        if _real_isdir(absolute):
            self._deleted.update(os.path.join(absolute, name) for name in _real_listdir(absolute))
        self._mapped[absolute] = mapped
        self._deleted.discard(absolute)
        return None if mapped is None else mapped

    def remove(self, path: object) -> bool:
        """Remember a path as removed; False when it is free and the real function shall act."""
        absolute = self.absolute(path)
        if absolute is None or self.is_free(absolute):
            return False
        mapped = self._mapped.pop(absolute, None)
        real = not self.is_deleted(absolute) and _real_lexists(absolute)
        if mapped is None and not real:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        for inner in [name for name in self._mapped if name.startswith(absolute + os.sep)]:
            del self._mapped[inner]
        if real:
            self._deleted.add(absolute)
        if mapped is not None:
            (_real_rmtree if _real_isdir(mapped) else _real_remove)(mapped)
        return True

    def move(self, source: object, target: object) -> bool:
        """Rename within the overlay; False when both ends are free."""
        old, new = self.absolute(source), self.absolute(target)
        if old is None or new is None or (self.is_free(old) and self.is_free(new)):
            return False
        here = self.reading(old) or old
        if _real_isdir(here):
            there = new if self.is_free(new) else self.root + new
            _real_makedirs(os.path.dirname(there))
            inner = {name: place for name, place in self._mapped.items() if name.startswith(old + os.sep)}
            shutil.copytree(here, there, dirs_exist_ok=True, copy_function=_real_copy)
            if not self.is_free(new):
                self._mapped[new] = there
                self._deleted.discard(new)
            for name in inner:
                self._mapped[new + name[len(old) :]] = there + name[len(old) :]
        else:
            there = self.writing(new, keep=False) or new
            _real_makedirs(os.path.dirname(there))
            _real_copy(here, there)
        if self.is_free(old):
            _real_remove(old)
        else:
            self.remove(old)
        return True

    def listing(self, path: object) -> tuple[list[str], list[str]] | None:
        """Names that the overlay adds to a folder and names that it hides; None when it changes nothing."""
        if not self.is_touched():
            return None
        absolute = self.absolute(path)
        if absolute is None:
            return None
        added = [os.path.basename(name) for name in self._mapped if os.path.dirname(name) == absolute]
        hidden = [os.path.basename(name) for name in self._deleted if os.path.dirname(name) == absolute]
        return (added, hidden) if added or hidden or absolute in self._mapped else None

    def place(self, absolute: str) -> str:
        """Where this absolute path really is."""
        return self._mapped.get(absolute, absolute)


# The real functions, taken before anything is replaced.
_real_stat, _real_lstat, _real_mkdir = os.stat, os.lstat, os.mkdir
_real_remove, _real_listdir, _real_open = os.remove, os.listdir, open


def _real_lexists(path: str) -> bool:
    try:
        _real_lstat(path)
    except OSError:
        return False
    return True


def _real_isdir(path: str) -> bool:
    try:
        return (_real_stat(path).st_mode & 0o170000) == 0o040000
    except OSError:
        return False


def _real_isfile(path: str) -> bool:
    try:
        return (_real_stat(path).st_mode & 0o170000) == 0o100000
    except OSError:
        return False


def _real_makedirs(path: str) -> None:
    if not _real_isdir(path):
        _real_makedirs(os.path.dirname(path))
        _real_mkdir(path)


def _real_copy(source: str, target: str, **_: object) -> str:
    with _real_open(source, "rb") as reader, _real_open(target, "wb") as writer:
        while chunk := reader.read(1 << 20):
            writer.write(chunk)
    return target


def _real_rmtree(path: str) -> None:
    for name in _real_listdir(path):
        inner = os.path.join(path, name)
        (_real_rmtree if _real_isdir(inner) else _real_remove)(inner)
    _real_rmdir(path)


_real_rmdir = os.rmdir


def quiet_trackers(environment: MutableMapping[str, str], scratch: str) -> None:
    """Keep experiment trackers from reporting a diagnosis as an experiment."""
    environment.update(
        {
            "WANDB_MODE": "disabled",
            "WANDB_SILENT": "true",
            "MLFLOW_TRACKING_URI": f"file://{os.path.join(os.path.abspath(scratch), 'mlruns')}",
            "COMET_MODE": "DISABLED",
            "COMET_AUTO_LOG_DISABLE": "true",
            "NEPTUNE_MODE": "debug",
            "CLEARML_OFFLINE_MODE": "1",
            "CODECARBON_LOG_LEVEL": "error",
        }
    )
