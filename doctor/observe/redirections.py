"""The functions that touch files, with the overlay in front of them."""

from __future__ import annotations

import builtins
import functools
import importlib.abc
import importlib.util
import io
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doctor.observe.sandbox import Sandbox

_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# Functions implemented outside Python's open(), by module: (name, index of the path argument, does it write?)
_LATE = {
    "torch.serialization": (("save", 1, "f", True), ("load", 0, "f", False)),
    "torch.jit": (("save", 1, "f", True), ("load", 0, "f", False)),
    "torch.export": (("save", 1, "f", True), ("load", 0, "f", False)),
    "torch.onnx": (("export", 2, "f", True),),
    "safetensors.torch": (("save_file", 1, "filename", True), ("load_file", 0, "filename", False)),
    "safetensors.numpy": (("save_file", 1, "filename", True), ("load_file", 0, "filename", False)),
    "pyarrow.parquet": (("write_table", 1, "where", True), ("read_table", 0, "source", False)),
}


class Redirections:
    """Installed for the life of the process."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._open(builtins, "open")
        self._open(io, "open")
        self._os_open()
        for name in ("stat", "lstat", "access", "readlink"):
            self._read_first(os, name)
        for name in ("chmod", "utime", "truncate"):
            self._write_first(os, name)
        self._make()
        for name in ("remove", "unlink", "rmdir"):
            self._remove(os, name)
        for name in ("rename", "replace"):
            self._move(os, name)
        self._list()
        self._chdir()
        self._rmtree()
        self._connect()
        for module in _LATE:
            if module in sys.modules:
                self._late(module)
        sys.meta_path.insert(0, _AfterImport(self._late))

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, functools.wraps(original)(make(original)))

    def _open(self, owner: Any, name: str) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
                writes = isinstance(mode, str) and bool(set(mode) & set("wax+"))
                if writes:
                    if "x" in mode and _exists(file):
                        raise FileExistsError(17, "File exists", str(file))
                    instead = sandbox.writing(file, keep="w" not in mode)
                else:
                    instead = sandbox.reading(file)
                return original(file if instead is None else instead, mode, *args, **kwargs)

            return open

        self._replace(owner, name, make)

    def _os_open(self) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def open(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
                if kwargs.get("dir_fd") is None:
                    writes = flags & _WRITE_FLAGS
                    keep = not flags & os.O_TRUNC
                    instead = sandbox.writing(path, keep) if writes else sandbox.reading(path)
                    path = path if instead is None else instead
                return original(path, flags, *args, **kwargs)

            return open

        self._replace(os, "open", make)

    def _read_first(self, owner: Any, name: str) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def reader(path: Any, *args: Any, **kwargs: Any) -> Any:
                if sandbox.is_touched() and kwargs.get("dir_fd") is None:
                    try:
                        instead = sandbox.reading(path)
                    except FileNotFoundError:
                        if name == "access":
                            return False
                        raise
                    path = path if instead is None else instead
                return original(path, *args, **kwargs)

            return reader

        self._replace(owner, name, make)

    def _write_first(self, owner: Any, name: str) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def writer(path: Any, *args: Any, **kwargs: Any) -> Any:
                absolute = sandbox.absolute(path)
                if absolute is None or sandbox.is_free(absolute):
                    return original(path, *args, **kwargs)
                if os.path.isdir(absolute):
                    return None
                return original(sandbox.writing(path, keep=True), *args, **kwargs)

            return writer

        self._replace(owner, name, make)

    def _make(self) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def mkdir(path: Any, *args: Any, **kwargs: Any) -> Any:
                if sandbox.making(path) is None:
                    return original(path, *args, **kwargs)
                return None

            return mkdir

        self._replace(os, "mkdir", make)

    def _remove(self, owner: Any, name: str) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def remove(path: Any, *args: Any, **kwargs: Any) -> Any:
                if kwargs.get("dir_fd") is not None or not sandbox.remove(path):
                    return original(path, *args, **kwargs)
                return None

            return remove

        self._replace(owner, name, make)

    def _move(self, owner: Any, name: str) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def move(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
                if not sandbox.move(source, target):
                    return original(source, target, *args, **kwargs)
                return None

            return move

        self._replace(owner, name, make)

    def _list(self) -> None:
        sandbox = self._sandbox

        def names(original: Any) -> Any:
            def listdir(path: Any = ".") -> Any:
                change = sandbox.listing(path)
                if change is None:
                    return original(path)
                added, hidden = change
                absolute = sandbox.absolute(path) or ""
                real = original(absolute) if _is_real_folder(absolute, original) else []
                return [name for name in real if name not in hidden and name not in added] + added

            return listdir

        def entries(original: Any) -> Any:
            def scandir(path: Any = ".") -> Any:
                change = sandbox.listing(path)
                if change is None:
                    return original(path)
                added, hidden = change
                absolute = sandbox.absolute(path) or ""
                found: list[Any] = []
                if _is_real_folder(absolute, original_listdir):
                    with original(absolute) as real:
                        found = [entry for entry in real if entry.name not in hidden and entry.name not in added]
                found += [
                    _Entry(os.fsdecode(path), name, sandbox.place(os.path.join(absolute, name))) for name in added
                ]
                return _Scan(found)

            return scandir

        original_listdir = os.listdir
        self._replace(os, "listdir", names)
        self._replace(os, "scandir", entries)

    def _chdir(self) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def chdir(path: Any) -> Any:
                instead = sandbox.reading(path)
                return original(path if instead is None else instead)

            return chdir

        self._replace(os, "chdir", make)

    def _rmtree(self) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def rmtree(path: Any, ignore_errors: bool = False, *args: Any, **kwargs: Any) -> Any:
                try:
                    if sandbox.remove(path):
                        return None
                except FileNotFoundError:
                    if ignore_errors:
                        return None
                    raise
                return original(path, ignore_errors, *args, **kwargs)

            return rmtree

        self._replace(shutil, "rmtree", make)

    def _connect(self) -> None:
        sandbox = self._sandbox

        def make(original: Any) -> Any:
            def connect(database: Any, *args: Any, **kwargs: Any) -> Any:
                text = database if isinstance(database, str) else ""
                if text.startswith("file:") or text in ("", ":memory:"):
                    return original(database, *args, **kwargs)
                instead = sandbox.writing(database, keep=True)
                return original(database if instead is None else instead, *args, **kwargs)

            return connect

        self._replace(sqlite3, "connect", make)

    def _late(self, module: str) -> None:
        owner = sys.modules[module]
        for name, position, keyword, writes in _LATE[module]:
            original = getattr(owner, name, None)
            if original is None:
                continue
            replaced = self._mapped_call(original, position, keyword, writes)
            setattr(owner, name, replaced)
            if module == "torch.serialization":
                setattr(sys.modules["torch"], name, replaced)

    def _mapped_call(self, original: Any, position: int, keyword: str, writes: bool) -> Any:
        sandbox = self._sandbox

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            path = args[position] if len(args) > position else kwargs.get(keyword)
            if isinstance(path, str | bytes | os.PathLike):
                instead = sandbox.writing(path, keep=False) if writes else sandbox.reading(path)
                if instead is not None:
                    if len(args) > position:
                        args = (*args[:position], instead, *args[position + 1 :])
                    else:
                        kwargs[keyword] = instead
            return original(*args, **kwargs)

        return call


class _Entry:
    """What `os.scandir` gives for a path of the overlay."""

    def __init__(self, folder: str, name: str, place: str) -> None:
        self.name, self.path, self._place = name, os.path.join(folder, name), place

    def __fspath__(self) -> str:
        return self.path

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return os.path.isdir(self._place)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return os.path.isfile(self._place)

    def is_symlink(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self._place)

    def inode(self) -> int:
        return os.stat(self._place).st_ino


class _Scan:
    """An iterator that is also a context, as `os.scandir` returns."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls back once a module of `_LATE` has been imported."""

    def __init__(self, imported: Callable[[str], None]) -> None:
        self._imported = imported
        self._running: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find the real module, and have its loader call back."""
        if name not in _LATE or name in self._running:
            return None
        self._running.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._running.discard(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self._imported(name)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _exists(path: Any) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def _is_real_folder(absolute: str, listdir: Any) -> bool:
    try:
        listdir(absolute)
    except OSError:
        return False
    return True
