"""From a finding to patches: edits made on the user's files, as unified diffs."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from doctor.findings import Finding, Patch, PatchedFile, Severity, Verdict
from doctor.patches.prescriptions import edits_for

if TYPE_CHECKING:
    from doctor.patches.source import Source

Contents = Mapping[Path, bytes]
_LIBRARIES = ("site-packages", "dist-packages")


def available() -> bool:
    """Whether the parser is installed."""
    try:
        import libcst  # noqa: F401
    except ImportError:
        return False
    return True


def wanted(finding: Finding) -> bool:
    """Whether a patch is looked for: a cause at a known line that is told as an error or a warning."""
    told = finding.caused_by is None and finding.suppressed is None and finding.level is not Severity.INFO
    known = finding.location.path and finding.location.line
    return bool(told and known and finding.verdict is not Verdict.REFUTED)


def patches_for(finding: Finding, current: Contents, since: float | None = None) -> Iterator[Patch]:
    """The patches that may cure a finding, made on top of `current` contents; none that differ in nothing.

    A file that was written after the time `since` is not what was observed, and gets no patch.
    """
    from doctor.patches import surgery
    from doctor.patches.source import CannotEdit, Project

    path, line = finding.location.path, finding.location.line
    if not path or not line:
        return
    seen: list[dict[Path, bytes]] = []
    for edit in edits_for(finding):
        project = Project(current=dict(current))
        try:
            contents = surgery.perform(edit, project, path, line, finding.location.module or "")
            if contents in seen or not all(_editable(real, since) for real in contents):
                continue
            seen.append(contents)
            sources = {real: project.open(str(real)) for real in contents}
        except CannotEdit:
            continue
        files = tuple(_file(real, new, sources[real]) for real, new in contents.items())
        diff = "".join(unified_diff(shown(real), sources[real], new) for real, new in contents.items())
        yield Patch(description=edit.describe(), diff=diff, files=files)


def _editable(real: Path, since: float | None) -> bool:
    if any(part in _LIBRARIES for part in real.parts) or not real.is_file():
        return False
    return since is None or real.stat().st_mtime <= since


def _file(real: Path, new: bytes, source: Source) -> PatchedFile:
    return PatchedFile(
        path=str(real),
        original=hashlib.sha256(real.read_bytes()).hexdigest(),
        content=new,
        text=source.decoded(new),
    )


def shown(real: Path) -> str:
    """A path as it stands in a diff: relative to the working folder where it lies below it."""
    folder = os.path.realpath(os.getcwd())
    return os.path.relpath(real, folder).replace(os.sep, "/") if real.is_relative_to(folder) else str(real)


def unified_diff(name: str, source: Source, new: bytes) -> str:
    """The difference as `git apply` and `patch -p1` read it."""
    old_lines, new_lines = _lines(source.text), _lines(source.decoded(new))
    name = name.lstrip("/")
    parts = difflib.unified_diff(old_lines, new_lines, f"a/{name}", f"b/{name}")
    return "".join(part if part.endswith("\n") else f"{part}\n\\ No newline at end of file\n" for part in parts)


def _lines(text: str) -> list[str]:
    """Lines with their ends; only what ends a line in a diff does so (no form feeds, no lone carriage returns)."""
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
