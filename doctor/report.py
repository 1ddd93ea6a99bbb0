"""The report: ranked findings with verdicts, what was fine, what could not be looked at."""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field

import doctor
from doctor.findings import Finding, Frozen, Location, Severity, Verdict

SCHEMA_VERSION = "1.2"


class SubjectSummary(Frozen):
    """What was examined and how its run ended.

    `kind` is `program`, `case`, `recording` or `dataset`; `outcome` as in `ProgramRun`, in words in `ending`; `rows` are
    those of a data set that were examined.
    """

    kind: str
    target: str
    arguments: tuple[str, ...] = ()
    outcome: str = ""
    ending: str = ""
    steps: int = 0
    seconds: float = 0.0
    rows: int = 0


class Summary(Frozen):
    """Counts over the findings that are not suppressed, and over the rules."""

    errors: int = 0
    warnings: int = 0
    infos: int = 0
    root_causes: int = 0
    symptoms: int = 0
    suppressed: int = 0
    rules_run: int = 0
    rules_fine: int = 0
    rules_skipped: int = 0
    trials: int = 0
    seconds: float = 0.0


class SkippedRule(Frozen):
    """A rule that could not look, and why."""

    rule: str
    reason: str


class Report(Frozen):
    """The outcome of one diagnosis. `findings` are ranked, most probable root cause first.

    `fine` are the codes of the rules that looked and found nothing, `notes` what the user should know besides,
    `unused_suppressions` the comments and entries of the baseline whose rule found nothing there.
    """

    schema_version: str = SCHEMA_VERSION
    doctor_version: str = doctor.__version__
    subject: SubjectSummary
    summary: Summary
    findings: tuple[Finding, ...] = ()
    evidence: dict[str, Any] = Field(default_factory=dict)
    skipped: tuple[SkippedRule, ...] = ()
    fine: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unused_suppressions: tuple[str, ...] = ()
    # What a page draws of a data set (`doctor.pictures`); made where one was asked for, and no part of other forms.
    pictures: Any = Field(default=(), exclude=True, repr=False)

    @property
    def active(self) -> tuple[Finding, ...]:
        """The findings that are not suppressed."""
        return tuple(finding for finding in self.findings if finding.suppressed is None)

    @property
    def causes(self) -> tuple[Finding, ...]:
        """The active findings that are no other active finding's symptom.

        Who accepts a cause has not accepted what else it does: its symptoms then stand for themselves.
        """
        return tuple(
            finding
            for finding in self.active
            if finding.caused_by is None or self.findings[finding.caused_by].suppressed is not None
        )

    def symptoms_of(self, cause: Finding) -> tuple[Finding, ...]:
        """The active findings that this one caused."""
        index = self.findings.index(cause)
        return tuple(finding for finding in self.active if finding.caused_by == index)

    def path_of(self, location: Location) -> str:
        """The file that a location names, from the working folder; without one, that of the subject.

        Files of an artifact are named from the artifact's own folder.
        """
        target = self.subject.target
        if not location.path:
            if self.subject.kind == "dataset":  # of several files, the first
                target = next((part for part in (target, *target.split()) if os.path.exists(part)), target)
            return target.partition(":")[0] or "unknown"
        within = os.path.join(target if os.path.isdir(target) else os.path.dirname(target), location.path)
        paths = (within, location.path) if self.subject.kind == "artifact" else (location.path, within)
        return next((path for path in paths if os.path.exists(path)), location.path)

    @property
    def healthy(self) -> bool:
        """No error and no warning."""
        return not self.fails(Severity.WARNING)

    def fails(self, level: Severity | None) -> bool:
        """Whether an active finding is at or above this level; None (never) fails nothing."""
        return level is not None and any(finding.level.rank <= level.rank for finding in self.active)

    @property
    def text(self) -> str:
        """The plain-text report."""
        from doctor.reports.text import render

        return render(self)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """How a notebook shows the report."""
        from html import escape

        return f"<pre>{escape(self.text)}</pre>"


def summarise(
    findings: tuple[Finding, ...], skipped: tuple[SkippedRule, ...], fine: tuple[str, ...], seconds: float, trials: int
) -> Summary:
    """Count."""
    active = [finding for finding in findings if finding.suppressed is None]
    levels = [finding.level for finding in active]
    causes = [finding for finding in active if finding.caused_by is None and finding.verdict is not Verdict.REFUTED]
    hit = {finding.rule for finding in findings}
    return Summary(
        errors=levels.count(Severity.ERROR),
        warnings=levels.count(Severity.WARNING),
        infos=levels.count(Severity.INFO),
        root_causes=sum(finding.level is not Severity.INFO for finding in causes),
        symptoms=sum(finding.caused_by is not None for finding in active),
        suppressed=len(findings) - len(active),
        rules_run=len(fine) + len(hit),
        rules_fine=len(fine),
        rules_skipped=len(skipped),
        trials=trials,
        seconds=seconds,
    )
