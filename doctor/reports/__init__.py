"""Output formats, one file each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from doctor.findings import Severity
    from doctor.report import Report

FORMATS = ("text", "concise", "json", "sarif", "junit", "github", "gitlab", "markdown", "html")
# What a file's name asks for; several formats share a suffix, and the first is meant where none was named.
SUFFIXES = {
    ".json": ("json", "sarif", "gitlab"),
    ".sarif": ("sarif",),
    ".xml": ("junit",),
    ".md": ("markdown",),
    ".html": ("html",),
    ".htm": ("html",),
    ".txt": ("text", "concise", "github"),
}


def format_of(path: str, wanted: str | None = None) -> str:
    """The format of a file: `wanted` where the name does not speak against it, else what the name asks for."""
    fitting = next((formats for suffix, formats in SUFFIXES.items() if path.lower().endswith(suffix)), None)
    if fitting is None:
        return wanted or "text"
    return wanted if wanted in fitting else fitting[0]


def render(
    report: Report, format_: str, *, colour: bool = False, verbose: bool = False, failing: Severity | None = None
) -> str:
    """The report in one of the `FORMATS`; raises DoctorError for any other.

    `failing` is the level that fails the run: of the formats, only JUnit tells failures from the rest.
    """
    from doctor.errors import DoctorError

    if format_ not in FORMATS:
        raise DoctorError(f'no format "{format_}"', f"known: {', '.join(FORMATS)}")
    module = import_module(f"doctor.reports.{format_}")
    if format_ == "text":
        return str(module.render(report, colour=colour, verbose=verbose))
    if format_ == "junit":
        return str(module.render(report, failing=failing))
    return str(module.render(report))
