"""The terminal report: root cause, place, numbers, cure, proof; then what else was seen."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from doctor.findings import Effect, Finding, Patch, Severity, Verdict
from doctor.report import Report
from doctor.reports.places import one_line, printable, source_line, standing

_BARS = "▁▂▃▄▅▆▇█"
_MARKS = {Verdict.CONFIRMED: "confirmed ✔", Verdict.REFUTED: "refuted ✘", Verdict.INCONCLUSIVE: "inconclusive"}
_FILES = 8  # samples that are files of their own, whose names are long
_OTHER_DATA = re.compile(r"no (table|images|recordings|texts|tensors)\b")  # why a rule on other data is silent
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


class _Painter:
    def __init__(self, colour: bool, verbose: bool = False) -> None:
        self.colour, self.verbose = colour, verbose

    def __call__(self, text: str, **style: str | bool) -> str:
        return click.style(text, **style) if self.colour else text  # type: ignore[arg-type]


def render(report: Report, *, colour: bool = False, verbose: bool = False, width: int = 100) -> str:
    """The whole report as text."""
    paint = _Painter(colour, verbose)
    lines: list[str] = []
    shown = [f for f in report.causes if verbose or f.level is not Severity.INFO]
    for finding in shown:
        lines += [*_block(report, finding, paint, width), ""]
    minor = [f for f in report.causes if f not in shown]
    if minor:
        lines.append("also seen (-v shows more)")
        lines += [f"  {f.rule} {f.name}: {_short(f.message, width)}{_why(f)}" for f in minor]
        lines.append("")
    lines += _closing(report, paint, verbose)
    return "\n".join(_harmless(line, colour) for line in lines) + "\n"


def _harmless(line: str, colour: bool) -> str:
    """One line without what would steer a terminal, but for our own colours: names in a file may hold anything."""
    line = re.sub(r"[\r\n\v\f]+", " ", line)
    parts = re.split(r"(\x1b\[[0-9;]*m)", line) if colour else [line]
    return "".join(part if position % 2 else printable(part) for position, part in enumerate(parts))


def _block(report: Report, finding: Finding, paint: _Painter, width: int) -> list[str]:
    head = f"{finding.level}[{finding.rule}] {finding.name}{_fault(report, finding)}"
    mark = _mark(report, finding)
    gap = " " * max(2, width - len(head) - len(mark))
    tone = "green" if finding.verdict is Verdict.CONFIRMED else "yellow"
    lines = [paint(head, fg=_COLOURS[finding.level], bold=True) + (gap + paint(mark, fg=tone) if mark else "")]
    if str(finding.location):
        column = report.subject.kind == "dataset" and not finding.location.path and finding.location.column
        lines.append(f"  --> {'column ' if column else ''}{one_line(finding.location)}")
        lines += _source(finding, paint)
    lines += _row("fact", finding.message, width)
    lines += _rows(finding, width, paint.verbose)
    if finding.remedy:
        lines += _row("cure", finding.remedy + _suggestion(finding.effect), width)
    lines += _proof(finding, width)
    lines += _rates(finding)
    if finding.patch is not None:
        lines += _row("patch", patch_line(finding.patch), width)
    symptoms = report.symptoms_of(finding)
    for position, symptom in enumerate(symptoms):
        label = "caused" if not position else ""
        lines += _row(label, f"{symptom.rule} {symptom.name}: {_short(symptom.message, width)}", width)
    for related in finding.related:
        if str(related.location):
            lines += _row("see", f"{related.location}: {related.message}", width)
    lines += _row("more", f"doctor explain {finding.rule}", width)
    return lines


def _fault(report: Report, finding: Finding) -> str:
    """What was found of an artifact, where its rule answers several faults and is called by another one."""
    fault = next(iter(finding.faults), "")
    return f": {fault}" if report.subject.kind == "artifact" and finding.name not in fault and fault else ""


def _mark(report: Report, finding: Finding) -> str:
    mark = _MARKS.get(finding.verdict) or standing(report, finding)
    effect = finding.effect
    if finding.verdict is Verdict.CONFIRMED and effect and effect.control_curve:
        return f"{mark} ({effect.agreeing} of {effect.seeds} seeds)"
    return mark


def _source(finding: Finding, paint: _Painter) -> list[str]:
    path, line = finding.location.path, finding.location.line
    if not path or not line:
        return []
    rows = []
    for number in (line - 1, line, line + 1):
        text = source_line(path, number).rstrip()
        if text:
            here = number == line
            rows.append(paint(f"  {number:>5} {'>' if here else '|'} {text}", bold=here))
    return rows


def _start(curve: Sequence[float]) -> float:
    # the first step of a program may have no loss that belongs to the optimizer
    return next((value for value in curve if math.isfinite(value)), curve[0])


def _proof(finding: Finding, width: int) -> list[str]:
    effect = finding.effect
    if effect is None:
        return []
    if not effect.control_curve:
        return _row("proof", effect.note or effect.statistic, width)
    lines = []
    for label, curve, level in (
        ("without", effect.control_curve, effect.control),
        ("with", effect.treated_curve, effect.treated),
    ):
        if curve:
            end = "diverges" if level is None or not math.isfinite(level) else f"{level:.4g}"
            lines.append(f"{label:<7} loss {_number(_start(curve))} -> {end:<9} {sparkline(curve, effect)}")
    what = finding.treatment.describe() if finding.treatment else "treatment"
    text = f"{effect.steps} steps, {what}"
    if effect.on_top_of:
        text += f" (both arms: {', '.join(effect.on_top_of)})"
    if effect.note:
        text += f"; {effect.note}"
    return [*_row("proof", text, width), *(f"         {line}" for line in lines)]


def patch_line(patch: Patch) -> str:
    """What became of the patched program, and where the patch is to be had."""
    shown = "doctor diagnose --diff prints the patch"
    effect = patch.effect
    if effect is None:
        return f"{patch.description}, untested; {shown}"
    if not effect.treated_curve:
        return f"{patch.description}, {patch.verdict}: {effect.note}"
    without, with_patch = (
        f"{_number(_start(curve)) if curve else '?'} -> {'diverges' if level is None or not math.isfinite(level) else f'{level:.4g}'}"
        for curve, level in ((effect.control_curve, effect.control), (effect.treated_curve, effect.treated))
    )
    what = "patched script" + (f" (both: {', '.join(patch.on_top_of)} patched)" if patch.on_top_of else "")
    why = f"; {effect.note}" if effect.note and (not patch.proven or effect.statistic.startswith("whether")) else ""
    return f"{what}: loss {with_patch} (control {without}), {patch.verdict}{why}; {shown}"


def _rows(finding: Finding, width: int, verbose: bool) -> list[str]:
    rows = finding.rows
    if rows is None or not rows.first:
        return []
    files = [place.path for place in rows.first if place.whole and place.path]
    files = files if verbose else files[:_FILES]
    several = len({(place.split, place.path) for place in rows.first}) > 1 or bool(files)
    named = files or [f"{place.path or place.split} " * several + str(place.row) for place in rows.first]
    more = f", ... ({rows.count:,} of {rows.of:,})" if rows.count > len(named) else ""
    where = "" if several else f"of {rows.first[0].path or rows.first[0].split}: "
    return _row("rows", where + ", ".join(named) + more, width)


def _rates(finding: Finding) -> list[str]:
    rates = finding.effect.rates if finding.effect else ()
    if not rates:
        return []
    heads = [f"{r.learning_rate:.2g}" if r.learning_rate is not None else f"x{r.factor:.2g}" for r in rates]
    levels = [_number(rate.loss) if rate.loss is not None else "diverges" for rate in rates]
    marks = ["now" if r.factor == 1.0 else "best" if r.best else "sane" if r.sane else "" for r in rates]
    wide = [max(map(len, cells)) for cells in zip(heads, levels, marks, strict=True)]

    def row(label: str, cells: list[str]) -> str:
        return "  ".join([f"{label:<5}", *(cell.rjust(size) for cell, size in zip(cells, wide, strict=True))]).rstrip()

    first, *others = row("lr", heads), row("loss", levels), row("", marks)
    return [f"  rates  {first}", *(f"         {line}" for line in others)]


def sparkline(curve: Sequence[float], effect: Effect, points: int = 24) -> str:
    """The curve in at most `points` glyphs, on one scale for both arms; a value that is not finite is a cross."""
    known = [v for v in (*effect.control_curve, *effect.treated_curve) if math.isfinite(v)]
    if not known:
        return "×" * min(points, len(curve))
    low = min(known)
    high = min(max(known), low + 3 * (abs(sorted(known)[len(known) // 2] - low) or max(known) - low or 1.0))
    count = min(points, len(curve))
    glyphs = []
    for position in range(count):
        part = curve[position * len(curve) // count : max((position + 1) * len(curve) // count, 1)] or curve[-1:]
        value = sum(part) / len(part)
        share = (value - low) / (high - low) if high > low else 0.0
        glyphs.append("×" if not math.isfinite(value) else _BARS[min(7, max(0, int(share * 8)))])
    return "".join(glyphs)


def _row(label: str, text: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(text, width - 9, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"  {label:<6} {wrapped[0]}", *(f"         {line}" for line in wrapped[1:])]


def _suggestion(effect: Effect | None) -> str:
    return f": {effect.suggestion}" if effect and effect.suggestion else ""


def _why(finding: Finding) -> str:
    if finding.verdict is Verdict.REFUTED:
        return " (refuted: the cure did not help)"
    return f" ({finding.verdict})" if finding.verdict is not Verdict.UNTESTED else ""


def _short(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" ...")


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def _closing(report: Report, paint: _Painter, verbose: bool) -> list[str]:
    summary, subject = report.summary, report.subject
    total = summary.rules_run + summary.rules_skipped
    if subject.kind == "dataset":
        seen = f"{subject.rows:,} {report.evidence.get('dataset', {}).get('unit', 'row')}{'s' * (subject.rows != 1)}"
    else:
        seen = subject.ending if subject.kind == "artifact" else f"{subject.steps} steps"
    run = f"{seen}, {summary.seconds:.1f} s"
    skipped = ""
    reasons = Counter(skip.reason for skip in report.skipped)
    foreign = 0
    if subject.kind == "dataset" and not verbose:
        foreign = sum(reasons.pop(reason) for reason in list(reasons) if _OTHER_DATA.match(reason))
    if reasons:
        told = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))
        skipped = (
            f", {summary.rules_skipped - foreign} skipped ({told if verbose or not report.healthy else '-v says why'})"
        )
    skipped += f", {foreign} for other kinds of data" if foreign else ""
    lines = []
    if report.healthy:
        still = "differential" in report.evidence  # asked only of a program whose loss stands still
        words, tone = ("no fault proven, but its loss stands still", "yellow") if still else ("healthy", "green")
        if summary.suppressed and not still:
            words = "no error and no warning but what is suppressed"
        head = paint(f"{subject.target}: {words}", fg=tone, bold=True)
        lines.append(f"{head} · {total} rules, {summary.rules_run} ran{skipped} · {run}")
    else:
        causes = f"{summary.root_causes} root cause{'s' * (summary.root_causes != 1)}"
        symptoms = f", {summary.symptoms} symptom{'s' * (summary.symptoms != 1)}" if summary.symptoms else ""
        ran = f"{summary.rules_run} rules run, {summary.rules_fine} fine{skipped}"
        lines.append(f"{causes}{symptoms} · {ran} · {run}")
    lines += _data(report)
    differential = report.evidence.get("differential")
    if differential:
        side = differential["side"]
        open_ends = {"none": "no side in particular is at fault", "unknown": "the side of the fault is open"}
        place = open_ends.get(side, f"the fault is on the side of the {side}")
        lines.append(f"differential diagnosis: {place}: {differential['reason']}")
        if verbose:
            lines += [
                f"  {_holds(answer)} {answer['question']} ({answer['measured']})" for answer in differential["answers"]
            ]
    if subject.outcome in ("timeout", "killed"):
        lines.append(f"note: {subject.ending}; the report covers what was seen until then")
    lines += [f"note: {note}" for note in report.notes]
    if any(f.rows is not None and f.rows.count > len(f.rows.first) for f in report.causes if f.rows):
        lines.append("all rows found: --rows FOUND.parquet; a page with pictures: --output REPORT.html")
    if summary.suppressed and not verbose:
        lines.append(f"{summary.suppressed} suppressed (-v says why)")
    if verbose:
        lines += [f"suppressed {_suppression(f)}" for f in report.findings if f.suppressed is not None]
        lines += [f"unused suppression: {unused}" for unused in report.unused_suppressions]
        lines += [f"skipped {skip.rule}: {skip.reason}" for skip in report.skipped]
    return lines


def _data(report: Report) -> list[str]:
    """A data set in a line: its splits, its classes, where most values are missing."""
    about = report.evidence.get("dataset") or {}
    splits: dict[str, int] = about.get("splits") or {}
    parts = [" / ".join(f"{name} {rows:,}" for name, rows in splits.items())] if len(splits) > 1 else []
    classes = [own for own in (about.get("classes") or {}).values() if own]
    if classes:
        first, total = classes[0], sum(classes[0].values())
        named = ", ".join(f"{_short(name, 24)} {count / total:.0%}" for name, count in list(first.items())[:4])
        more = f", {len(first) - 4} more" if len(first) > 4 else ""
        parts.append(f"{len(first)} classes ({named}{more})")
    gaps = list((about.get("missing") or {}).items())
    if gaps:
        parts.append("missing: " + ", ".join(f"{_short(name, 24)} {share:.1%}" for name, share in gaps[:3]))
    return [f"data: {'; '.join(parts)}"] if parts else []


def _suppression(finding: Finding) -> str:
    told = finding.suppressed or {}
    place = f" ({finding.location})" if str(finding.location) else ""
    return f"{finding.rule} {finding.name}{place} by {told.get('by')}: {told.get('why')}"


def _holds(answer: dict[str, Any]) -> str:
    return {True: "yes", False: "no "}.get(answer["holds"], "?  ")
