"""GitHub workflow commands: annotations at the lines that the findings name.

GitHub shows ten annotations of a level and a step, and drops what comes after without a word: the findings are
ranked, only causes are annotated, and the rest is counted in a line of its own.
"""

from __future__ import annotations

from doctor.findings import Finding, Severity
from doctor.report import Report
from doctor.reports.places import one_line, place, printable, proof

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning"}
_SHOWN = 10


def render(report: Report) -> str:
    """One `::error` or `::warning` line a cause, then a line that tells what was examined."""
    lines, left_out = [], []
    for level, command in _COMMANDS.items():
        found = [finding for finding in report.causes if finding.level is level]
        lines += [_annotation(report, finding, command) for finding in found[:_SHOWN]]
        if len(found) > _SHOWN:
            left_out.append(f"{len(found) - _SHOWN} more {command}s not annotated")
    summary = report.summary
    counts = f"{summary.errors} errors, {summary.warnings} warnings"
    rules = f"{summary.rules_run} rules run, {summary.rules_skipped} skipped"
    lines.append(", ".join([f"doctor: {one_line(report.subject.target)}: {counts}; {rules}", *left_out]))
    return "\n".join(lines) + "\n"


def _annotation(report: Report, finding: Finding, command: str) -> str:
    here = place(report, finding.location)
    properties = {"title": f"{finding.rule} {finding.name}", "file": here.path}
    if here.line is not None:
        properties |= {"line": str(here.line), "endLine": str(here.line)}
    told = f"{here.path}{f':{here.line}' if here.line is not None else ''}: {finding.message}"
    cure = f"cure: {finding.remedy}" if finding.remedy else ""
    message = "\n".join(part for part in (told, proof(finding), cure) if part)
    settings = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    return f"::{command} {settings}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    """As the runner reads it back: percent and line breaks everywhere, colon and comma in properties."""
    text = printable(text)
    for character in f"%\r\n{more}":  # the percent sign first
        text = text.replace(character, f"%{ord(character):02X}")
    return text
