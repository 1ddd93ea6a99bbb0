"""Where reports go: files, standard output, the summary of a GitHub job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from doctor.errors import DoctorError
from doctor.reports import FORMATS, format_of, render

if TYPE_CHECKING:
    from doctor.findings import Severity
    from doctor.report import Report

_LONGEST_SUMMARY = 1_000_000  # bytes; GitHub drops a step's summary of more than 1 MiB, also when steps add up to it


def to_file(report: Report, asked: str, format_: str | None, failing: Severity | None) -> str:
    """Write the report where `[FORMAT=]PATH` asks; without a format, `format_of` decides. Gives the format."""
    named, path = asked_for(asked, format_)
    write(Path(path), render(report, named, failing=failing))
    return named


def asked_for(asked: str, format_: str | None) -> tuple[str, str]:
    """Format and path of `[FORMAT=]PATH`; raises DoctorError for a format that there is none of."""
    named, equals, path = asked.partition("=")
    if equals and named in FORMATS:
        return named, path
    if equals and named.isidentifier() and not Path(asked).parent.joinpath(named).exists():
        raise DoctorError(f'no format "{named}"', f"known: {', '.join(FORMATS)}")
    return format_of(asked, format_), asked


def wants(format_: str, outputs: Iterable[str], given: str | None) -> bool:
    """Whether the report is to be had in this format, as a file or on standard output."""
    return given == format_ or any(asked_for(asked, given)[0] == format_ for asked in outputs)


def write(path: Path, text: str) -> None:
    """Write a text file, with its folders; raises DoctorError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        raise DoctorError(f"{path} cannot be written: {failure.strerror or failure}") from None


def to_step_summary(report: Report) -> None:
    """Append the report to the summary of the GitHub job that runs this command, if one does."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    text = render(report, "markdown") + "\n"
    try:
        if Path(path).exists() and Path(path).stat().st_size + len(text.encode(errors="replace")) > _LONGEST_SUMMARY:
            return
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError as failure:
        raise DoctorError(f"the step summary {path} cannot be written: {failure.strerror}") from None


def encodable(text: str) -> str:
    """What standard output can take: a file's name may hold bytes that are no text, a terminal may know no arrows."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
