"""Output formats, one file each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from doctor.report import Report

FORMATS = ("text", "concise", "json")


def render(report: Report, format_: str, *, colour: bool = False, verbose: bool = False) -> str:
    """The report in one of the `FORMATS`; raises DoctorError for any other."""
    from doctor.errors import DoctorError

    if format_ not in FORMATS:
        raise DoctorError(f'no format "{format_}"', f"known: {', '.join(FORMATS)}")
    module = import_module(f"doctor.reports.{format_}")
    if format_ == "text":
        return str(module.render(report, colour=colour, verbose=verbose))
    return str(module.render(report))
