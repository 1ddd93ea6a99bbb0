"""One line a finding, for grep and editors."""

from __future__ import annotations

from doctor.report import Report
from doctor.reports.places import one_line


def render(report: Report) -> str:
    """`path:line: error OPT003 missing-zero-grad: message [confirmed]`."""
    lines = []
    for finding in report.active:
        place = str(finding.location) or report.subject.target
        told = f"{place}: {finding.level} {finding.rule} {finding.name}: {finding.message} [{finding.verdict}]"
        lines.append(one_line(told))
    return "\n".join(lines) + ("\n" if lines else "")
