"""The flow for a data set: source, probes, evidence, checks, findings, trials, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doctor import config, probes, registry, suppressions
from doctor.config import Settings
from doctor.dataset_summary import summary
from doctor.errors import DoctorError, Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.findings import Finding, Severity
from doctor.progress import Progress, SilentProgress
from doctor.ranking import ranked
from doctor.report import Report, SkippedRule, SubjectSummary, summarise
from doctor.subjects.dataset import DataOptions, dataset, dataset_of

if TYPE_CHECKING:
    from doctor.pictures.records import Illustration
    from doctor.registry import Rule


def diagnose_data(
    data: Any,
    *,
    target: str | None = None,
    train: Any = None,
    test: Any = None,
    valid: Any = None,
    split_column: str | None = None,
    sample: int | None = None,
    memory_limit: str | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
    pictures: bool = False,
    **changes: Any,
) -> Report:
    """Diagnose a data set: a frame (pandas, Polars, Arrow, PySpark), paths, a torch data set or loader, or a mapping of
    split names to any of these.

    `pictures` are drawn by `report.html`. `changes` are fields of `Settings` (`select=("DAT",)`). Raises DoctorError for what is no data.
    """
    splits = {name: one for name, one in (("train", train), ("valid", valid), ("test", test)) if one is not None}
    if splits and data is not None:
        splits = {"train": data, **splits}
    options = DataOptions(
        target=target, split_column=split_column, sample=sample, memory_limit=memory_limit, tokenizer=tokenizer,
        max_length=max_length,
    )  # fmt: skip
    source = dataset_of(splits or data, options)
    return examine(source, "data", config.changed(Settings(), **changes), SilentProgress(), pictures)


def diagnose_paths(
    paths: Sequence[str],
    options: DataOptions,
    settings: Settings,
    progress: Progress,
    rows: Path | None = None,
    pictures: bool = False,
) -> Report:
    """Diagnose the data set in these files, folders and patterns; all rows found go to the Parquet file `rows`.

    With `pictures`, the report holds what its page draws.
    """
    given = " ".join([*paths, *options.train, *options.valid, *options.test])
    progress.start(f"looking through {given}", None)
    source = dataset(paths, options)
    report = examine(source, given, settings, progress, pictures)
    if rows is not None:
        write_rows(report, rows)
    return report


def examine(source: DataSource, name: str, settings: Settings, progress: Progress, pictures: bool = False) -> Report:
    """Gather the evidence that the rules on data ask for, run them, and rank what they find."""
    started = time.monotonic()
    chosen = (*settings.select, *settings.extend_select) if settings.select else ()
    rules = registry.select(registry.load(), chosen, settings.ignore)
    probes.load()
    looks = tuple(look for rule in rules for look in rule.looks_at((DataSource,)) if _on_data(look))
    samples = source.samples.read(progress).samples if source.samples is not None else None
    if samples is None and not source.tabular:
        raise DoctorError(
            f"{name} holds {source.kind}, of which no sample can be read", "doctor diagnose --help tells what is read"
        )
    if source.tabular and looks:
        progress.start(f"reading {name}", None)
        source.tables.rows  # noqa: B018  what cannot be read ends the diagnosis here, with one clear line
    found = _gathered(source, {need.kind for look in looks for need in look.needs}, name, progress)
    findings, skipped = registry.run(looks, found, settings.rules)
    findings, trials = _tried(source, findings, found, progress) if settings.confirm else (findings, 0)
    progress.finish()
    if not looks or len({look.code for look in looks}) == len({skip.rule for skip in skipped}):
        reasons = "; ".join(sorted({skip.reason for skip in skipped})) or "no rule that is selected concerns data"
        raise DoctorError(f"nothing of {name} could be examined ({reasons})")
    order = ranked(findings)
    unlooked = tuple(SkippedRule(rule=skip.rule, reason=skip.reason) for skip in skipped)
    off = {skip.rule for skip in skipped} | {finding.rule for finding in findings}
    fine = tuple(dict.fromkeys(look.code for look in looks if look.code not in off))
    drawn, missing = _drawn(source, found, order, progress) if pictures else ((), ())
    seconds = round(time.monotonic() - started, 2)
    rows = source.tables.rows if source.tabular else samples.count if samples is not None else 0
    about = summary(source, found, samples)
    notes = source.tables.notes if source.tabular else samples.notes if samples is not None else ()
    report = Report(
        subject=SubjectSummary(kind="dataset", target=name, outcome="examined", seconds=seconds, rows=rows),
        summary=summarise(order, unlooked, fine, seconds, trials),
        findings=order,
        evidence={"dataset": {"kind": source.kind, "target": source.target, **about}},
        skipped=unlooked,
        fine=fine,
        notes=(*registry.warnings, *source.notes, *notes, *missing),
        pictures=drawn,
    )
    return suppressions.applied(report, settings)


def _gathered(source: DataSource, wanted: set[type[Evidence]], name: str, progress: Progress) -> probes.Found:
    """Each kind of evidence in turn, so that the bar moves with the scans."""
    found: dict[type[Evidence], Evidence | Unavailable] = {DataSource: source}
    progress.start(f"examining {name}", len(wanted))
    for done, kind in enumerate(sorted(wanted, key=lambda kind: kind.__name__)):
        found |= probes.gather((), [kind], found)
        progress.advance(done + 1)
    return found


def _tried(
    source: DataSource, findings: list[Finding], found: probes.Found, progress: Progress
) -> tuple[list[Finding], int]:
    """The findings with what a reference model shows of them, and how many were tried."""
    if not source.tabular or not any(finding.level is not Severity.INFO for finding in findings):
        return findings, 0
    from doctor.evidence.reference_scores import ReferenceScores
    from doctor.evidence.table_sample import TableSample
    from doctor.trials.table_trials import TRIED, judged

    if not any(finding.rule in TRIED for finding in findings):
        return findings, 0
    have = [record for record in found.values() if isinstance(record, Evidence)]
    more = probes.gather(have, [TableSample, ReferenceScores])
    sample, scores = more[TableSample], more[ReferenceScores]
    if not isinstance(sample, TableSample) or not isinstance(scores, ReferenceScores):
        return findings, 0
    progress.start("trying the findings on a reference model", len(findings))
    tried = []
    for done, finding in enumerate(findings):
        tried.append(judged(finding, sample, scores))
        progress.advance(done + 1)
    return tried, sum(finding.effect is not None for finding in tried)


def _drawn(
    source: DataSource, found: probes.Found, findings: Sequence[Finding], progress: Progress
) -> tuple[tuple[Illustration, ...], tuple[str, ...]]:
    from doctor.pictures.making import illustrations

    progress.start("drawing what was found", None)
    try:
        return illustrations(source, found, findings)
    finally:
        progress.finish()


def _on_data(rule: Rule) -> bool:
    """Whether any of its evidence comes from a data set (a rule on programs may require none of its own)."""
    return any(DataSource in probes.roots(need.kind) for need in rule.needs)


def write_rows(report: Report, path: Path) -> None:
    """All rows of all findings as Parquet: finding (its place in the report), rule, column, split, file, row."""
    import pyarrow
    import pyarrow.parquet

    parts = [
        (place, finding.rule, finding.location.column, str(split), file, int(row))
        for place, finding in enumerate(report.findings)
        if finding.rows is not None
        for split, file, row in finding.rows.every
    ]
    text = pyarrow.string()
    kinds = (pyarrow.int32(), text, text, text, text, pyarrow.int64())
    columns = list(zip(*parts, strict=True)) if parts else [()] * 6
    arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    table = pyarrow.table(arrays, names=["finding", "rule", "column", "split", "file", "row"])
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
