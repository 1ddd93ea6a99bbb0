"""JUnit XML: each rule is a test case; a rule that found something fails, one that could not look is skipped."""

from __future__ import annotations

from xml.etree import ElementTree

from doctor import registry
from doctor.findings import Finding, Severity
from doctor.report import Report
from doctor.reports.places import named, one_line, place, printable, proof


def render(report: Report, *, failing: Severity | None = Severity.WARNING) -> str:
    """The report as XML; findings at or above `failing` are failures (None: none are)."""
    names = {code: (rule.name, rule.family) for code, rule in registry.load().items()}
    names |= {finding.rule: (finding.name, finding.family) for finding in report.findings}
    reasons = {skip.rule: skip.reason for skip in report.skipped}
    codes = sorted({*report.fine, *reasons, *(finding.rule for finding in report.findings)})
    suite = ElementTree.Element("testsuite", name=f"doctor {printable(report.subject.target)}")
    counts = dict.fromkeys(("failures", "errors", "skipped"), 0)
    for code in codes:
        name, family = names.get(code, (code, "doctor"))
        case = ElementTree.SubElement(suite, "testcase", classname=f"doctor.{family}", name=f"{code} {name}", time="0")
        own = [finding for finding in report.findings if finding.rule == code]
        failures = [finding for finding in own if _fails(finding, failing)]
        if failures:
            counts["failures"] += 1
            _fail(report, case, failures)
        elif code in reasons:
            crashed = reasons[code].startswith("crashed")
            counts["errors" if crashed else "skipped"] += 1
            ElementTree.SubElement(case, "error" if crashed else "skipped", message=one_line(reasons[code]))
        others = [finding for finding in own if finding not in failures]
        if others:
            ElementTree.SubElement(case, "system-out").text = "\n\n".join(_told(report, other) for other in others)
    totals = {"tests": str(len(codes)), "time": f"{report.summary.seconds:.3f}"}
    totals |= {key: str(count) for key, count in counts.items()}
    suite.attrib.update(totals)
    suites = ElementTree.Element("testsuites", {"name": "doctor", **totals})
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _fails(finding: Finding, failing: Severity | None) -> bool:
    return failing is not None and finding.suppressed is None and finding.level.rank <= failing.rank


def _fail(report: Report, case: ElementTree.Element, failures: list[Finding]) -> None:
    first = failures[0]
    here = place(report, first.location)
    case.set("file", printable(here.path))
    if here.line is not None:
        case.set("line", str(here.line))
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    failure = ElementTree.SubElement(case, "failure", message=one_line(first.message) + more, type=str(first.level))
    failure.text = "\n\n".join(_told(report, finding) for finding in failures)


def _told(report: Report, finding: Finding) -> str:
    here = place(report, finding.location)
    where = f"{printable(here.path)}:{here.line}" if here.line is not None else printable(here.path)
    lines = [f"{where}: {finding.level}: {printable(finding.message)}", named(finding.location), proof(finding)]
    if finding.remedy:
        lines.append(f"cure: {printable(finding.remedy)}")
    if finding.caused_by is not None:
        cause = report.findings[finding.caused_by]
        lines.append(f"caused by {cause.rule} {cause.name}")
    if finding.suppressed is not None:
        by, why = finding.suppressed.get("by", ""), finding.suppressed.get("why", "")
        lines.append(f"suppressed by {printable(by)}: {printable(why)}")
    return "\n".join(line for line in lines if line)
