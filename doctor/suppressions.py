"""Findings that the user has accepted: by a comment on the line, or by an entry of the baseline."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from doctor import baseline, registry
from doctor.baseline import Baseline
from doctor.config import Settings
from doctor.errors import DoctorError
from doctor.findings import Finding
from doctor.report import Report, summarise

_COMMENT = re.compile(r"#\s*doctor:\s*ignore\b(?:\[(?P<rules>[^\]]*)\])?(?P<reason>.*)", re.I)
_NO_REASON = "no reason given"


@dataclass(frozen=True)
class Comment:
    """`# doctor: ignore[OPT003, ...] reason`, and the lines of the statement that it stands in."""

    path: str
    line: int
    first: int
    last: int
    rules: tuple[str, ...]
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether it speaks of this finding: a rule of its own, on a line of its statement."""
        line = finding.location.line
        return (
            line is not None and self.first <= line <= self.last and bool({finding.rule, finding.name} & {*self.rules})
        )


def comments(path: str, source: str) -> Iterator[Comment]:
    """The comments of one Python source; none where it cannot be read as such."""
    first, waiting = 0, list[tuple[int, re.Match[str]]]()
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                if found := _COMMENT.search(token.string):
                    waiting.append((token.start[0], found))
            elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER) or (token.type == tokenize.NL and not first):
                last = token.start[0]
                for line, found in waiting:
                    rules = tuple(part.strip() for part in (found["rules"] or "").split(",") if part.strip())
                    reason = found["reason"].strip(" \t:-–—") or _NO_REASON
                    yield Comment(path, line, first or line, max(last, line), rules, reason)
                first, waiting = 0, []
            elif not first and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
                first = token.start[0]
    except (tokenize.TokenError, SyntaxError, ValueError):
        return


def applied(report: Report, settings: Settings) -> Report:
    """The report with what the user has accepted marked as such.

    Suppressed findings stay in it, with `by` (`comment`, `baseline`) and `why`, and fail nothing. Raises DoctorError
    for a baseline that cannot be read.
    """
    known = baseline.load(Path(settings.baseline)) if settings.baseline else None
    return with_baseline(with_comments(report), known)


def with_comments(report: Report) -> Report:
    """The report with the comments of the user's files in force, as far as findings or the target name these files."""
    found = [comment for path in _files(report) for comment in comments(path, _read(path))]
    if not found:
        return report
    used: set[tuple[Comment, str]] = set()
    findings = []
    for finding in report.findings:
        near = [c for c in found if c.path == finding.location.path and c.covers(finding)]
        if near and finding.suppressed is None:
            finding = finding.revised(suppressed={"by": "comment", "why": near[0].reason})
        used |= {(comment, name) for comment in near for name in (finding.rule, finding.name)}
        findings.append(finding)
    notes, unused = _left_over(report, found, used)
    return _changed(report, findings, notes, unused)


def with_baseline(report: Report, known: Baseline | None, today: date | None = None) -> Report:
    """The report with the baseline's entries in force, each for one finding; expired ones no longer are."""
    if known is None:
        return report
    today = today or date.today()
    waiting = list(known.accepted)
    findings, notes = [], []
    for finding in report.findings:
        entry = next((entry for entry in waiting if entry.fingerprint == finding.fingerprint), None)
        if entry is not None:
            waiting.remove(entry)
            if entry.expired(today):
                notes.append(f"accepted until {entry.expires}, and fails again: {entry.told}; it was: {entry.reason}")
            elif entry.sha256 and entry.sha256 != baseline.content(report, finding):
                notes.append(f"accepted of another content of {finding.location.path}, and fails again: {entry.told}")
            elif finding.suppressed is None:
                finding = finding.revised(suppressed={"by": "baseline", "why": entry.why})
        findings.append(finding)
    looked = _looked(report)
    unused = [f"baseline entry {entry.fingerprint}: {entry.told}" for entry in waiting if entry.rule in looked]
    return _changed(report, findings, notes, unused)


def _changed(report: Report, findings: Iterable[Finding], notes: Iterable[str], unused: Iterable[str]) -> Report:
    marked = tuple(findings)
    counts = report.summary
    summary = summarise(marked, report.skipped, report.fine, counts.seconds, counts.trials)
    changes = {
        "findings": marked,
        "summary": summary,
        "notes": (*report.notes, *notes),
        "unused_suppressions": (*report.unused_suppressions, *unused),
    }
    return report.model_copy(update=changes)


def _left_over(report: Report, found: Iterable[Comment], used: set[tuple[Comment, str]]) -> tuple[list[str], list[str]]:
    """What the user must know of comments that mean nothing, and what may go because its rule found nothing there."""
    rules = registry.load()
    looked = _looked(report)
    notes, unused = [], []
    for comment in found:
        where = f"{comment.path}:{comment.line}"
        if not comment.rules:
            notes.append(f"{where}: doctor: ignore names no rule, and ignores none; write ignore[CODE] reason")
        for name in comment.rules:
            try:
                code = registry.rule(name, rules).code
            except DoctorError as failure:
                notes.append(f"{where}: {failure.message}")
                continue
            if (comment, name) not in used and code in looked:
                unused.append(f"{where}: ignore[{name}]")
    return notes, unused


def _looked(report: Report) -> frozenset[str]:
    return frozenset({*report.fine, *(finding.rule for finding in report.findings)})


def _files(report: Report) -> list[str]:
    """The Python files that findings point at, and the target's own."""
    named = [finding.location.path for finding in report.findings]
    paths = [report.subject.target.partition(":")[0], *named]
    return [path for path in dict.fromkeys(paths) if path and path.endswith(".py")]


def _read(path: str) -> str:
    try:
        with tokenize.open(path) as stream:
            return stream.read()
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return ""
