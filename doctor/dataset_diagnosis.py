"""The flow for a data set: source, probes, evidence, checks, findings, trials, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doctor import config, probes, registry
from doctor.config import Settings
from doctor.errors import DoctorError
from doctor.evidence.data_source import DataSource
from doctor.progress import Progress, SilentProgress
from doctor.ranking import ranked
from doctor.report import Report, SkippedRule, SubjectSummary, summarise
from doctor.subjects.dataset import DataOptions, dataset, dataset_of

if TYPE_CHECKING:
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
    **changes: Any,
) -> Report:
    """Diagnose a data set: a frame (pandas, Polars, Arrow, PySpark), paths, a torch data set or loader, or a mapping of
    split names to any of these.

    `changes` are fields of `Settings` (`select=("DAT",)`). Raises DoctorError for what is no data.
    """
    splits = {name: one for name, one in (("train", train), ("valid", valid), ("test", test)) if one is not None}
    if splits and data is not None:
        splits = {"train": data, **splits}
    options = DataOptions(
        target=target, split_column=split_column, sample=sample, memory_limit=memory_limit, tokenizer=tokenizer,
        max_length=max_length,
    )  # fmt: skip
    source = dataset_of(splits or data, options)
    return examine(source, "data", config.changed(Settings(), **changes), SilentProgress())


def diagnose_paths(
    paths: Sequence[str], options: DataOptions, settings: Settings, progress: Progress, rows: Path | None = None
) -> Report:
    """Diagnose the data set in these files, folders and patterns; all rows found go to the Parquet file `rows`."""
    source = dataset(paths, options)
    report = examine(source, " ".join(paths) or source.splits[0].files[0], settings, progress)
    if rows is not None:
        write_rows(report, rows)
    return report


def examine(source: DataSource, name: str, settings: Settings, progress: Progress) -> Report:
    """Gather the evidence that the rules on data ask for, run them, and rank what they find."""
    started = time.monotonic()
    chosen = (*settings.select, *settings.extend_select) if settings.select else ()
    rules = registry.select(registry.load(), chosen, settings.ignore)
    probes.load()
    looks = tuple(look for rule in rules for look in rule.looks_at((DataSource,)) if _on_data(look))
    samples = source.samples.read(progress).samples if source.samples is not None else None
    progress.start(f"examining {name}", None)
    found = probes.gather([source], {need.kind for look in looks for need in look.needs})
    findings, skipped = registry.run(looks, found, settings.rules)
    progress.finish()
    if not looks or len({look.code for look in looks}) == len({skip.rule for skip in skipped}):
        reasons = "; ".join(sorted({skip.reason for skip in skipped})) or "no rule that is selected concerns data"
        raise DoctorError(f"nothing of {name} could be examined ({reasons})")
    order = ranked(findings)
    unlooked = tuple(SkippedRule(rule=skip.rule, reason=skip.reason) for skip in skipped)
    off = {skip.rule for skip in skipped} | {finding.rule for finding in findings}
    fine = tuple(dict.fromkeys(look.code for look in looks if look.code not in off))
    seconds = round(time.monotonic() - started, 2)
    rows = source.tables.rows if source.tabular else samples.count if samples is not None else 0
    about = source.tables.summary() if source.tabular else {}
    notes = source.tables.notes if source.tabular else samples.notes if samples is not None else ()
    return Report(
        subject=SubjectSummary(kind="dataset", target=name, outcome="examined", seconds=seconds, rows=rows),
        summary=summarise(order, unlooked, fine, seconds, 0),
        findings=order,
        evidence={"dataset": {"kind": source.kind, "target": source.target, **about}},
        skipped=unlooked,
        fine=fine,
        notes=(*registry.warnings, *source.notes, *notes),
    )


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
