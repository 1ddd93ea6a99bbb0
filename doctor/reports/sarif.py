"""SARIF 2.1.0, as GitHub code scanning takes it: every result has a file and a line, or the whole is refused."""

from __future__ import annotations

import json
from typing import Any

from doctor import catalogue, registry
from doctor.findings import Finding, Location, Severity
from doctor.registry import Rule
from doctor.report import Report
from doctor.reports.places import fingerprints, named, place, printable, proof, source_line

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PROBLEMS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "recommendation"}
# Scores in the manner of CVSS, only for what an attacker could use.
_SECURITY = {"unsafe-pickle": "9.8", "path-traversal": "7.5", "pii-secrets": "6.5"}
_BROWSER = "https://json.schemastore.org/sarif-2.1.0.json"
_MOST_RESULTS, _MOST_LOCATIONS, _MOST_WORDS = 25_000, 100, 1024  # what GitHub takes


def render(report: Report) -> str:
    """The report as one SARIF log with one run."""
    return json.dumps(document(report), indent=2) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The log as plain values."""
    known = registry.load()
    findings = report.findings[:_MOST_RESULTS]
    codes = sorted({*report.fine, *(skip.rule for skip in report.skipped), *(f.rule for f in findings)})
    rules = {code: _rule(code, known.get(code), report) for code in codes}
    prints = fingerprints(report)
    results = [_result(report, finding, prints[index], codes) for index, finding in enumerate(findings)]
    driver = {"name": "doctor", "semanticVersion": report.doctor_version, "rules": list(rules.values())}
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"doctor/{printable(report.subject.target)}/"},
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report, codes)],
        "results": results,
        "properties": {"summary": report.summary.model_dump(mode="json")},
    }
    return {"$schema": _BROWSER, "version": "2.1.0", "runs": [run]}


def _rule(code: str, rule: Rule | None, report: Report) -> dict[str, Any]:
    if rule is None:  # a rule set that is not installed here
        found = next((f for f in report.findings if f.rule == code), None)
        text = found.name if found and found.name else code
        return {"id": code, "shortDescription": {"text": printable(text)}, "help": {"text": printable(text)}}
    security = max((_SECURITY[fault] for fault in rule.faults if fault in _SECURITY), default=None)
    tags = list(dict.fromkeys([rule.family, str(rule.nature), *rule.faults]))[: 9 if security else 10]
    properties: dict[str, Any] = {"problem.severity": _PROBLEMS[rule.severity], "tags": tags}
    if security:
        properties |= {"security-severity": security, "tags": ["security", *tags]}
    full = " ".join(rule.section("What it measures").split()) or rule.summary
    return {
        "id": code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": full if len(full) <= _MOST_WORDS else f"{full[: _MOST_WORDS - 4]} ..."},
        "help": {"text": catalogue.page(rule, False), "markdown": catalogue.page(rule, True)},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": properties,
    }


def _result(report: Report, finding: Finding, fingerprint: str, codes: list[str]) -> dict[str, Any]:
    cause = report.findings[finding.caused_by] if finding.caused_by is not None else None
    related = [(near.location, near.message) for near in finding.related]
    if cause is not None:
        related.insert(0, (cause.location, f"caused by {cause.rule} {cause.name}: {cause.message}"))
    identity = {"doctorFinding/v1": fingerprint}
    if place(report, finding.location).line is None:  # GitHub makes its own only of a line of source
        identity["primaryLocationLineHash"] = f"{fingerprint.partition(':')[0]}:{fingerprint.partition(':')[2] or 1}"
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": codes.index(finding.rule),
        "level": _LEVELS[finding.level],
        "message": {"text": _message(finding)},
        "locations": [_location(report, finding.location)],
        "partialFingerprints": identity,
        "properties": _properties(finding),
    }
    if related:
        result["relatedLocations"] = [
            {"id": number, **_location(report, location), "message": {"text": printable(message)}}
            for number, (location, message) in enumerate(related[:_MOST_LOCATIONS], 1)
        ]
    if cause is not None:
        steps = ((cause.location, cause.message), (finding.location, finding.message))
        result["codeFlows"] = [{"threadFlows": [{"locations": [_step(report, *step) for step in steps]}]}]
    if finding.suppressed is not None:
        by, why = finding.suppressed.get("by", ""), finding.suppressed.get("why", "")
        kind = "inSource" if by == "comment" else "external"
        result["suppressions"] = [{"kind": kind, "status": "accepted", "justification": printable(why or by)}]
    return result


def _message(finding: Finding) -> str:
    parts = [finding.message.rstrip(".") + ".", proof(finding)]
    if finding.remedy:
        suggestion = finding.effect.suggestion if finding.effect and finding.effect.suggestion else None
        parts.append(f"Cure: {finding.remedy}{f': {suggestion}' if suggestion else ''}.")
    return printable(" ".join(part for part in parts if part))


def _properties(finding: Finding) -> dict[str, Any]:
    shown: dict[str, Any] = {"verdict": str(finding.verdict), "name": finding.name, "faults": list(finding.faults)}
    if finding.measured:
        shown["measured"] = {printable(name): printable(measure) for name, measure in finding.measured.items()}
    return shown


def _location(report: Report, location: Location) -> dict[str, Any]:
    here = place(report, location)
    artifact = {"uri": here.uri, **({"uriBaseId": "%SRCROOT%"} if here.inside else {})}
    found: dict[str, Any] = {"physicalLocation": {"artifactLocation": artifact, "region": _region(location, here.line)}}
    logical = [
        {"fullyQualifiedName": printable(name), "kind": kind}
        for kind in ("module", "column", "tensor")
        if (name := getattr(location, kind))
    ]
    if logical:
        found["logicalLocations"] = logical
        found["message"] = {"text": named(location)}
    return found


def _region(location: Location, line: int | None) -> dict[str, int]:
    if line is None or line < 1:
        return {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
    text = source_line(location.path, line).rstrip()
    start = len(text) - len(text.lstrip()) + 1
    return {"startLine": line, "startColumn": start, "endLine": line, "endColumn": max(len(text) + 1, start)}


def _step(report: Report, location: Location, message: str) -> dict[str, Any]:
    return {"location": {**_location(report, location), "message": {"text": printable(message)}}}


def _invocation(report: Report, codes: list[str]) -> dict[str, Any]:
    notes = [
        {
            "level": "warning" if skip.reason.startswith("crashed") else "note",
            "message": {"text": printable(f"{skip.rule} could not look: {skip.reason}")},
            "associatedRule": {"id": skip.rule, "index": codes.index(skip.rule)},
        }
        for skip in report.skipped
    ]
    return {"executionSuccessful": True, "toolExecutionNotifications": notes}
