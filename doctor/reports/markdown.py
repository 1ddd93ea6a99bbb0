"""Markdown for a comment on a merge request, and for a step's summary: the causes in a table, each in full below."""

from __future__ import annotations

import html
import re
from collections import Counter

from doctor.findings import Finding, Severity, Verdict
from doctor.report import Report
from doctor.reports.places import named, one_line, place, printable, proof, source_line, standing
from doctor.reports.text import sparkline

_MARKS = {Severity.ERROR: "🔴 error", Severity.WARNING: "🟠 warning", Severity.INFO: "🔵 info"}
_VERDICTS = {Verdict.CONFIRMED: "✔ confirmed", Verdict.REFUTED: "✘ refuted"}
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
_LONGEST = 60_000  # characters; GitHub refuses a comment of more than 65,536
MARK = "<!-- doctor report -->"  # by which a bot finds its earlier comment again


def render(report: Report) -> str:
    """The report, cut behind the finding with which it would grow too long for a comment."""
    told = [finding for finding in report.causes if finding.level is not Severity.INFO]
    minor = [finding for finding in report.causes if finding.level is Severity.INFO]
    head = [MARK, f"### {_headline(report)}", "", _counts(report)]
    if told:
        head += ["", "| | rule | place | finding | verdict |", "|---|---|---|---|---|"]
        head += [_row(report, finding) for finding in told]
    tail = ["", *_minor(minor), *_suppressed(report), *_skipped(report)]
    size = sum(len(line) + 1 for line in (*head, *tail))
    blocks: list[str] = []
    for position, finding in enumerate(told):
        block = _block(report, finding)
        size += len(block) + 2
        if size > _LONGEST:
            blocks += ["", f"*{len(told) - position} more in full in the other formats of the report.*"]
            break
        blocks += ["", block]
    text = "\n".join([*head, *blocks, *tail]).rstrip() + "\n"
    return text if len(text) <= _LONGEST else text[:_LONGEST].rpartition("\n")[0] + "\n\n*The report is cut here.*\n"


def escaped(text: object) -> str:
    """The text as Markdown that shows it literally: no markup, no HTML, nobody is mentioned, no issue referred to."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub("[@#]|:(?=//)", r"\g<0><!-- -->", _SPECIAL.sub(r"\\\1", plain))


def _code(text: object) -> str:
    """An inline code span, whatever backticks the text holds; safe in a table's cell."""
    plain = one_line(text).replace("|", "\\|")
    ticks = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}" if plain else ""


def _fence(text: str, language: str = "") -> str:
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{ticks}{language}\n{printable(text).rstrip()}\n{ticks}"


def _headline(report: Report) -> str:
    target, causes = _code(report.subject.target), report.summary.root_causes
    if report.healthy:
        return f"✅ {target}: no error, no warning"
    return f"🩺 {target}: {causes} root cause{'s' * (causes != 1)}"


def _counts(report: Report) -> str:
    summary = report.summary
    counts = [(summary.errors, "error"), (summary.warnings, "warning"), (summary.infos, "info")]
    words = ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in counts)
    suppressed = f", {summary.suppressed} suppressed" if summary.suppressed else ""
    rules = f"{summary.rules_run} rules run, {summary.rules_skipped} skipped"
    return f"{words}{suppressed} · {rules} · {summary.seconds:.1f} s · doctor {report.doctor_version}"


def _where(report: Report, finding: Finding) -> str:
    here = place(report, finding.location)
    return f"{here.path}:{here.line}" if here.line is not None else here.path


def _row(report: Report, finding: Finding) -> str:
    verdict = _VERDICTS.get(finding.verdict) or standing(report, finding)
    where, rule = _code(_where(report, finding)), f"**{finding.rule}** {escaped(finding.name)}"
    return f"| {_MARKS[finding.level]} | {rule} | {where} | {escaped(finding.message)} | {verdict} |"


def _block(report: Report, finding: Finding) -> str:
    lines = [f"<details><summary><b>{finding.rule}</b> {html.escape(finding.name)}: cure and proof</summary>", ""]
    source = source_line(finding.location.path, finding.location.line).strip()
    if source:
        lines += [_fence(source, "python"), ""]
    lines.append(f"- **fact** {escaped(finding.message)}")
    if str(finding.location):
        inner = named(finding.location)
        lines.append(f"- **place** {_code(_where(report, finding))}{f' ({escaped(inner)})' if inner else ''}")
    if finding.remedy:
        suggestion = f": {finding.effect.suggestion}" if finding.effect and finding.effect.suggestion else ""
        lines.append(f"- **cure** {escaped(finding.remedy + suggestion)}")
    if finding.effect is not None:
        lines.append(f"- **proof** {escaped(proof(finding))}")
        if finding.effect.treated_curve:
            lines.append(f"  - without {_code(sparkline(finding.effect.control_curve, finding.effect))}")
            lines.append(f"  - with {_code(sparkline(finding.effect.treated_curve, finding.effect))}")
    for symptom in report.symptoms_of(finding):
        lines.append(f"- **caused** {symptom.rule} {escaped(symptom.name)}: {escaped(symptom.message)}")
    for near in finding.related:
        if str(near.location):
            lines.append(f"- **see** {_code(near.location)}: {escaped(near.message)}")
    if finding.patch is not None and finding.patch.proven:
        lines += ["", _fence(finding.patch.diff, "diff")]
    if source:
        lines += ["", f"Silence: `# doctor: ignore[{finding.rule}] reason`"]
    return "\n".join([*lines, "", "</details>"])


def _minor(minor: list[Finding]) -> list[str]:
    if not minor:
        return []
    rows = [f"- {finding.rule} {escaped(finding.name)}: {escaped(finding.message)}" for finding in minor]
    return [f"<details><summary>also seen: {len(minor)}</summary>", "", *rows, "", "</details>", ""]


def _suppressed(report: Report) -> list[str]:
    rows = [
        f"- {f.rule} {escaped(f.name)}: {escaped(f.suppressed.get('why', ''))} ({escaped(f.suppressed.get('by', ''))})"
        for f in report.findings
        if f.suppressed is not None
    ]
    if not rows:
        return []
    return [f"<details><summary>suppressed: {len(rows)}</summary>", "", *rows, "", "</details>", ""]


def _skipped(report: Report) -> list[str]:
    notes = [f"> {escaped(note)}" for note in report.notes]
    if not report.skipped:
        return notes
    rows = [
        f"- {escaped(reason)}: {count}" for reason, count in Counter(s.reason for s in report.skipped).most_common()
    ]
    head = f"<details><summary>rules that could not look: {len(report.skipped)}</summary>"
    return [*notes, head, "", *rows, "", "</details>"]
