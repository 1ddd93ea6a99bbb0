"""Where a finding points, as other tools write places: relative to the repository, in URIs, in printable characters."""

from __future__ import annotations

import linecache
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from doctor.findings import Finding, Location, Verdict
from doctor.report import Report

# What XML 1.0 has no form for, and what no terminal or web page should get from a finding's text.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""The text with control characters, bytes that are no UTF-8 and reordering marks written out, as `\x1b`."""

    def written(found: re.Match[str]) -> str:
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:  # how Python carries an undecodable byte of a file's name
            code -= 0xDC00
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNPRINTABLE.sub(written, str(text))


def one_line(text: object) -> str:
    """The text without line breaks."""
    return " ".join(printable(text).split())


@dataclass(frozen=True)
class Place:
    """A file as other tools know it, and a line of it (None: the file as a whole).

    `path` is relative to the repository, with slashes, where the file lies in it; `inside` says so.
    """

    path: str
    line: int | None
    inside: bool

    @property
    def uri(self) -> str:
        """The path as a URI reference, or an absolute URI for a file elsewhere."""
        try:
            name = os.fsencode(self.path)
        except UnicodeEncodeError:  # no name that a file can have
            name = printable(self.path).encode()
        quoted = quote(name, safe="/~!$&'()*,;=@+")
        return quoted if self.inside else f"file://{'' if quoted.startswith('/') else '/'}{quoted}"


@cache
def repository(folder: str, workspace: str | None) -> str:
    """The real path of the repository that holds `folder`; without one, the folder itself.

    `workspace` is what a continuous-integration system says that it checked out.
    """
    here = Path(os.path.realpath(folder))
    if workspace and here.is_relative_to(os.path.realpath(workspace)):
        return os.path.realpath(workspace)
    return str(next((above for above in (here, *here.parents) if (above / ".git").exists()), here))


def place(report: Report, location: Location) -> Place:
    """The file that this location names; without one, the file of the report's subject."""
    workspace = os.environ.get("GITHUB_WORKSPACE") or os.environ.get("CI_PROJECT_DIR")
    root = Path(repository(os.getcwd(), workspace))
    real = Path(_real(report.path_of(location)))
    line = location.line if location.path else None
    if real.is_relative_to(root) and real != root:
        return Place(real.relative_to(root).as_posix(), line, True)
    return Place(real.as_posix(), line, False)


def _real(path: str) -> str:
    """The path without links: GitHub shows nothing for a file that it knows by another name."""
    try:
        return os.path.realpath(path)
    except (ValueError, OSError):  # a hostile artifact may name what no file can be called
        return os.path.abspath(path)


def source_line(path: str | None, line: int | None) -> str:
    """One line of a source file, without its end; empty where there is none."""
    try:
        # by its absolute path: under a relative one another folder's file may be remembered
        return linecache.getline(os.path.abspath(path), line).rstrip("\r\n") if path and line else ""
    except (ValueError, OSError):
        return ""


def fingerprints(report: Report) -> tuple[str, ...]:
    """The findings' fingerprints; the second of two alike ends in `:2`, and so on."""
    seen: Counter[str] = Counter()
    given = []
    for finding in report.findings:
        seen[finding.fingerprint] += 1
        count = seen[finding.fingerprint]
        given.append(finding.fingerprint if count == 1 else f"{finding.fingerprint}:{count}")
    return tuple(given)


def named(location: Location) -> str:
    """The module, column or tensor that the location names, in words; empty where it names none."""
    parts = [f"{kind} {name}" for kind in ("module", "column", "tensor") if (name := getattr(location, kind))]
    return printable(", ".join(parts))


def proof(finding: Finding) -> str:
    """What the trial showed, in a sentence; empty where there was none."""
    effect = finding.effect
    if effect is None:
        return ""
    if effect.control_curve:
        losses = " and ".join(
            f"{'diverges' if level is None else f'loss {level:.4g}'} {arm} the cure"
            for level, arm in ((effect.control, "without"), (effect.treated, "with"))
        )
        text = f"{effect.steps} steps on {effect.seeds} seed{'s' * (effect.seeds != 1)}: {losses}"
    else:
        text = effect.note or effect.statistic
    if effect.statistic == "observation":  # nothing was tried, for nothing was open
        return printable(f"{text[:1].upper()}{text[1:]}.")
    return printable(f"{str(finding.verdict).capitalize()} by trial: {text}.")


def standing(report: Report, finding: Finding) -> str:
    """What speaks for a finding, in a word: the verdict of its trial, else how it was found where that needs no trial.

    Of a data set, rows are counted and quantities measured; what stands in an artifact is read there (no word).
    """
    if finding.verdict is not Verdict.UNTESTED:
        return str(finding.verdict)
    if report.subject.kind == "artifact":
        return ""
    if report.subject.kind == "dataset":
        return "counted" if finding.rows is not None else "measured"
    return str(finding.verdict)
