"""The baseline: findings that were accepted, by fingerprint, with the reason, who accepted them, and until when."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from doctor.errors import DoctorError
from doctor.findings import Finding, Severity
from doctor.report import Report

PINNED = frozenset({"unsafe-pickle", "path-traversal"})  # faults that are accepted of this very file only


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accepted(_Record):
    """One accepted finding.

    `expires` is the last day on which it is; None is for good. `sha256` is that of the file, where the finding is about
    what an attacker could have put there: another content of the same file was never looked at, and is not accepted.
    """

    fingerprint: str
    rule: str
    name: str = ""
    place: str = ""
    message: str = ""
    reason: str = Field(min_length=1)
    by: str = ""
    added: date
    expires: date | None = None
    sha256: str | None = None

    def expired(self, today: date) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires < today

    @property
    def told(self) -> str:
        """The entry in a line."""
        return " ".join(part for part in (self.rule, self.name, f"({self.place})" * bool(self.place)) if part)

    @property
    def why(self) -> str:
        """Reason, name and last day."""
        end = f"until {self.expires}" if self.expires else ""
        return f"{self.reason} ({', '.join(part for part in (self.by, str(self.added), end) if part)})"


class Baseline(_Record):
    """The file's content."""

    version: Literal[1] = 1
    accepted: tuple[Accepted, ...] = ()


def load(path: Path) -> Baseline:
    """The baseline of this file; raises DoctorError when there is none or it is malformed."""
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DoctorError(f"no baseline {path}", "write one with --write-baseline") from None
    except OSError as failure:
        raise DoctorError(f"the baseline {path} cannot be read: {failure.strerror}") from None
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DoctorError(f"{path} is no baseline: {f'{where}: ' if where else ''}{first['msg']}") from None


def save(known: Baseline, path: Path) -> None:
    """Write the baseline, one entry after the other, so that a change is easily reviewed."""
    text = json.dumps(known.model_dump(mode="json", exclude_none=True), indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        raise DoctorError(f"{path} cannot be written: {failure.strerror}") from None


def renewed(
    known: Baseline,
    report: Report,
    failing: Severity | None,
    reason: str,
    expires: date | None = None,
    today: date | None = None,
) -> Baseline:
    """What accepts every active finding at or above `failing` (None: errors and warnings).

    Entries of `known` that are still valid keep their reason and date; those of rules that could not look this time
    stay, and those whose finding is gone do not.
    """
    today = today or date.today()
    level = failing or Severity.WARNING
    looked = {*report.fine, *(finding.rule for finding in report.findings)}
    waiting = [entry for entry in known.accepted if not entry.expired(today)]
    entries = []
    for finding in report.active:
        if finding.level.rank > level.rank:
            continue
        entry = next((entry for entry in waiting if entry.fingerprint == finding.fingerprint), None)
        if entry is not None:
            waiting.remove(entry)
        entries.append(entry or _accepted(report, finding, reason, expires, today))
    return Baseline(accepted=(*entries, *(entry for entry in waiting if entry.rule not in looked)))


def _accepted(report: Report, finding: Finding, reason: str, expires: date | None, today: date) -> Accepted:
    return Accepted(
        fingerprint=finding.fingerprint,
        rule=finding.rule,
        name=finding.name,
        place=str(finding.location),
        message=finding.message,
        reason=reason,
        by=who(),
        added=today,
        expires=expires,
        sha256=content(report, finding) if PINNED & {*finding.faults} else None,
    )


def content(report: Report, finding: Finding) -> str | None:
    """The SHA-256 of the file that the finding names; None where there is none to read."""
    try:
        with open(report.path_of(finding.location), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None


def who() -> str:
    """Who runs the command: the actor of a continuous-integration job, or the user."""
    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if os.environ.get(name):
            return os.environ[name]
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for the user
        return ""
