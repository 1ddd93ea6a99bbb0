"""How each edit is made on the syntax tree. Needs libcst; every module of this package is loaded, and what performs an
edit is found by the edit's class.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doctor.patches.edits import Edit
from doctor.patches.source import CannotEdit, Project, Site

_Surgeon = Callable[[Any, Site], None]
_KNOWN: dict[type[Edit], _Surgeon] = {}


def performs(edit: type[Edit]) -> Callable[[_Surgeon], _Surgeon]:
    """Declare the function that makes this kind of edit; it raises CannotEdit where it does not know the style."""

    def known(surgeon: _Surgeon) -> _Surgeon:
        _KNOWN[edit] = surgeon
        return surgeon

    return known


def perform(edit: Edit, project: Project, path: str, line: int, module: str = "") -> dict[Path, bytes]:
    """Make an edit; the new contents of the files that it changes. Raises CannotEdit."""
    for found in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(found.name)
    if edit.path:
        path, line = edit.path, edit.line
    site = Site(project, project.open(path), project.line(path, line), module)
    surgeon = _KNOWN.get(type(edit))
    if surgeon is None:
        raise CannotEdit(f"nothing makes the edit {type(edit).__name__}")
    surgeon(edit, site)
    return site.results()
