"""Which line of the user's own code is running."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

Line = list[object]  # [path, line, function]


def called_by(module: str) -> bool:
    """Whether a function of this module is among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == module:
            return True
        frame = frame.f_back
    return False


class UserFrames:
    """Tells the user's code from libraries, and names its lines relative to the working folder."""

    def __init__(self) -> None:
        paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        paths += [*site.getsitepackages(), site.getusersitepackages(), os.path.dirname(os.path.dirname(__file__))]
        self._libraries = tuple(os.path.realpath(path) + os.sep for path in paths if path)
        self._folder = os.path.realpath(os.getcwd()) + os.sep
        self._known: dict[str, str | None] = {}

    def name(self, filename: str) -> str | None:
        """The path by which a user knows this file; None for a library's."""
        if filename not in self._known:
            self._known[filename] = self._name(filename)
        return self._known[filename]

    def _name(self, filename: str) -> str | None:
        if filename.startswith("<ipython-input") or "ipykernel" in filename:
            return filename
        if filename.startswith("<"):
            return None
        real = os.path.realpath(filename)
        if real.startswith(self._libraries) or f"{os.sep}site-packages{os.sep}" in real:
            return None
        return real[len(self._folder) :] if real.startswith(self._folder) else real

    def line(self) -> Line | None:
        """The innermost running line of the user's code (frames of ours and of libraries are passed over)."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            name = self.name(frame.f_code.co_filename)
            if name is not None:
                return [name, frame.f_lineno, frame.f_code.co_name]
            frame = frame.f_back
        return None

    def line_outside(self, module: object) -> Line | None:
        """The innermost user's line outside the constructors of this object: where it is made."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            name = self.name(code.co_filename)
            own = code.co_name == "__init__" and code.co_varnames and frame.f_locals.get(code.co_varnames[0]) is module
            if name is not None and not own:
                return [name, frame.f_lineno, code.co_name]
            frame = frame.f_back
        return None

    def line_of_constructor(self, line: Line | None) -> Line | None:
        """The innermost user's line within a constructor, where `line` (running, too) is within another function."""
        if line is None or line[2] in ("__init__", "<module>"):
            return None
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            name = self.name(frame.f_code.co_filename) if frame.f_code.co_name == "__init__" else None
            if name is not None:
                return [name, frame.f_lineno, "__init__"]
            frame = frame.f_back
        return None

    def read(self, about: Callable[..., dict[str, Line]], line: Line | None, *more: Any) -> dict[str, Line]:
        """What `about(text, line, ...)` says of the file in which a line stands; nothing where it cannot be read."""
        if line is None:
            return {}
        try:
            with open(os.path.join(self._folder, str(line[0])), encoding="utf-8") as source:
                return about(source.read(), line, *more)
        except (OSError, SyntaxError, ValueError, RecursionError):
            return {}

    def traceback(self, traceback: TracebackType | None) -> list[Line]:
        """The user's lines of a traceback, from the outside in."""
        lines: list[Line] = []
        while traceback is not None:
            code = traceback.tb_frame.f_code
            name = self.name(code.co_filename)
            if name is not None:
                lines.append([name, traceback.tb_lineno, code.co_name])
            traceback = traceback.tb_next
        return lines
