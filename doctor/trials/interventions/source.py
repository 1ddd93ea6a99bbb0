"""The program with other files than those on disk."""

from __future__ import annotations

import _io
import io
import linecache
import os
from importlib.machinery import SourceFileLoader
from typing import Any

from doctor.trials.interventions.base import Intervention


class RunEdited(Intervention):
    """Gives the import system and `runpy` the edited text.

    Both read code with `io.open_code` (CPython 3.8 and later); a cached bytecode file is passed by when the source has
    no statistics, and `linecache` (tracebacks, `torch.jit.script`) keeps what it is given without a time.
    """

    treats = "run-edited"

    def install(self) -> None:
        """In front of both."""
        self._texts = {os.path.realpath(path): text for path, text in self.plan["files"]}
        self._open, self._stats = io.open_code, SourceFileLoader.path_stats
        io.open_code = _io.open_code = self._open_code

        def path_stats(loader: SourceFileLoader, path: Any) -> Any:
            if os.path.realpath(path) in self._texts:
                raise OSError("edited")
            return self._stats(loader, path)

        SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign,assignment]
        for path, text in self._texts.items():
            lines = text.splitlines(keepends=True)
            for name in (path, os.path.relpath(path)):
                linecache.cache[name] = (len(text), None, lines, path)

    def remove(self) -> None:
        """As before."""
        io.open_code = _io.open_code = self._open
        SourceFileLoader.path_stats = self._stats  # type: ignore[method-assign]

    def _open_code(self, path: Any) -> Any:
        text = self._texts.get(os.path.realpath(path))
        if text is None:
            return self._open(path)
        return io.BytesIO(_as_utf8(text))


def _as_utf8(text: str) -> bytes:
    """As bytes that compile to the same: a declared encoding is that of the file on disk, not of this text."""
    lines = text.split("\n")
    lines[:2] = map(_undeclared, lines[:2])
    return "\n".join(lines).encode()


def _undeclared(line: str) -> str:
    return line.replace("coding", "code") if line.lstrip().startswith("#") else line
