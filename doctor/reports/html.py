"""One self-contained web page: no script, no request, opens from a file, follows the reader's dark or light mode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from doctor.findings import Finding, Severity
from doctor.report import Report
from doctor.reports import charts
from doctor.reports import json as json_report
from doctor.reports.pictures import Drawn, drawn
from doctor.reports.places import named, place, printable, proof, source_line, standing
from doctor.reports.text import patch_line

if TYPE_CHECKING:
    from jinja2 import Template

_VITALS = {
    "loss": "loss",
    "gradient_norm": "gradient norm",
    "update_ratio": "update ratio",
    "lr": "learning rate",
}
_OWN_SECTIONS = ("trace", "differential", "dataset")
_MOST_ROWS = 200


def render(report: Report) -> str:
    """The report as a page."""
    pictures = drawn(report.pictures)
    causes = [finding for finding in report.causes if finding.level is not Severity.INFO]
    return _template().render(
        report=report,
        causes=causes,
        minor=[finding for finding in report.causes if finding.level is Severity.INFO],
        suppressed=[finding for finding in report.findings if finding.suppressed is not None],
        vitals=_vitals(report.evidence.get("trace") or ()),
        differential=report.evidence.get("differential"),
        dataset=_dataset(report),
        overview=pictures.get(None, []),
        pictured=lambda finding: _pictured(report, finding, pictures),
        tables=[
            table
            for name, value in report.evidence.items()
            if name not in _OWN_SECTIONS
            for table in _tables(name, value)
        ],
        skipped=_skipped(report),
        embedded=_embedded(report),
        where=lambda finding: _where(report, finding),
        source=_source,
        proof=proof,
        standing=lambda finding: standing(report, finding),
        named=named,
        curves=_curves,
        response=charts.response,
        patch_line=lambda patch: patch_line(patch).partition("; doctor diagnose")[0],
    )


@cache
def _template() -> Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("doctor", "reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    return environment.get_template("report.html.jinja")


def _where(report: Report, finding: Finding) -> str:
    here = place(report, finding.location)
    return f"{here.path}:{here.line}" if here.line is not None else here.path


def _source(finding: Finding) -> list[tuple[int, str, bool]]:
    """The line of the finding between its neighbours: number, text, whether it is the one."""
    path, line = finding.location.path, finding.location.line
    if not line or not source_line(path, line).strip():
        return []
    numbers = range(max(1, line - 2), line + 3)
    return [(number, source_line(path, number), number == line) for number in numbers]


def _curves(finding: Finding) -> Markup:
    effect = finding.effect
    if effect is None or not effect.control_curve:
        return Markup("")
    arms = (("without the cure", "control", effect.control_curve), ("with the cure", "treated", effect.treated_curve))
    return charts.curves([charts.Series(*arm) for arm in arms], "loss")


def _pictured(report: Report, finding: Finding, pictures: Mapping[int | None, list[Drawn]]) -> list[Drawn]:
    return pictures.get(next((i for i, one in enumerate(report.findings) if one is finding), -1), [])


def _dataset(report: Report) -> list[tuple[str, str]]:
    """What was read of a data set: a few names with what they are."""
    about = report.evidence.get("dataset")
    if not isinstance(about, Mapping):
        return []
    told: list[tuple[str, str]] = []
    for split, rows in (about.get("splits") or {}).items():
        files = (about.get("files") or {}).get(split) or []
        of = f" in {files[0]}" if len(files) == 1 else f" in {len(files)} files" if files else ""
        told.append((split, f"{rows:,} {about.get('unit', 'row')}{'s' * (rows != 1)}{of}"))
    plain = ("kind", "columns", "target", "engine", "broken_records")
    return told + [(name.replace("_", " "), str(about[name])) for name in plain if about.get(name)]


def _vitals(trace: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """A chart of each quantity that was watched at every step and that changes at all."""
    drawn = []
    for key, label in _VITALS.items():
        values = [step.get(key) for step in trace]
        if len({value for value in values if value is not None}) > 1:
            drawn.append((label, charts.curves([charts.Series(label, "observed", values)], label)))
    return drawn


Table = tuple[str, list[str], list[list[Any]], int]  # title, heads, rows, how many rows are left out


def _tables(title: str, value: Any) -> list[Table]:
    """Evidence as tables: what a record holds in one, and each of its lists of records in one of its own."""
    if isinstance(value, Mapping):
        inner = {key: one for key, one in value.items() if _is_records(one)}
        plain = [[str(key).replace("_", " "), one] for key, one in value.items() if key not in inner]
        own: list[Table] = [(title, [], plain[:_MOST_ROWS], max(0, len(plain) - _MOST_ROWS))] if plain else []
        return [*own, *(table for key, one in inner.items() for table in _tables(f"{title}: {key}", one))]
    if _is_records(value):
        heads = list(dict.fromkeys(key for row in value[:_MOST_ROWS] for key in row))
        rows = [[row.get(head, "") for head in heads] for row in value[:_MOST_ROWS]]
        return [(title, heads, rows, max(0, len(value) - _MOST_ROWS))]
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [(title, [], [[one] for one in listed[:_MOST_ROWS]], max(0, len(listed) - _MOST_ROWS))]


def _is_records(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    return all(isinstance(row, Mapping) for row in value)


def _skipped(report: Report) -> list[tuple[str, list[str]]]:
    """The reasons, each with the rules that it silenced; the most frequent first."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for skip in report.skipped:
        reasons[skip.reason].append(skip.rule)
    return sorted(reasons.items(), key=lambda pair: -len(pair[1]))


def _embedded(report: Report) -> Markup:
    """The JSON report, so written that nothing in it can end the element that holds it.

    Without the evidence and the curves, which are drawn: a page is to be mailed.
    """
    lean = tuple(
        finding.revised(effect=finding.effect.model_copy(update={"control_curve": (), "treated_curve": ()}))
        if finding.effect
        else finding
        for finding in report.findings
    )
    text = json_report.render(report.model_copy(update={"evidence": {}, "findings": lean}), indent=None)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
