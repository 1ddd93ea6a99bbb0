"""GitLab's code quality report: a JSON list with one entry a finding."""

from __future__ import annotations

import hashlib
import json

from doctor.findings import Finding, Severity
from doctor.report import Report
from doctor.reports.places import fingerprints, one_line, place, printable, proof

_SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.INFO: "info"}


def render(report: Report) -> str:
    """The findings that are not suppressed, in the report's order."""
    entries = []
    for finding, fingerprint in zip(report.findings, fingerprints(report), strict=True):
        if finding.suppressed is None:
            here = place(report, finding.location)
            entries.append(
                {
                    "description": _description(finding),
                    "check_name": f"{finding.rule} {finding.name}",
                    "fingerprint": hashlib.sha256(fingerprint.encode()).hexdigest()[:32],
                    "severity": _SEVERITIES[finding.level],
                    "location": {"path": printable(here.path), "lines": {"begin": here.line or 1}},
                }
            )
    return json.dumps(entries, indent=2) + "\n"


def _description(finding: Finding) -> str:
    cure = f"Cure: {finding.remedy}." if finding.remedy else ""
    return one_line(" ".join(part for part in (finding.message.rstrip(".") + ".", proof(finding), cure) if part))
