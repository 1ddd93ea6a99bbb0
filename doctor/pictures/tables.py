"""Pictures of a table: from its profile and sample, and from the few rows that are shown as examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from doctor.evidence.data_source import DataSource
from doctor.evidence.table_profile import ColumnProfiles, TableProfile
from doctor.evidence.table_sample import TableSample
from doctor.findings import Finding
from doctor.pictures.distributions import bars, counted, histogram, shares
from doctor.pictures.records import Bars, Histogram, Illustration, Picture
from doctor.pictures.rows import LONGEST_CELL, examples
from doctor.pictures.texts import excerpt
from doctor.tables.dialect import settled
from doctor.tables.tables import Tables

_OTHERS = 4  # numeric columns without a finding that are drawn
_READ = 50_000  # rows of a column that are read for its histogram where the sample does not do
_MOST_CLASSES = 200


def table_pictures(
    source: DataSource, profile: TableProfile, sample: TableSample | None, findings: Sequence[Finding]
) -> Iterator[Illustration]:
    """What the whole table looks like, and what each finding is about."""
    for picture in (_target(profile, sample), _missing(profile)):
        if picture is not None:
            yield Illustration(picture)
    shown: set[str] = set()
    drawn = {profile.target.name} if profile.target else set[str]()
    for place, finding in enumerate(findings):
        column = profile.named(finding.location.column) if finding.location.column else None
        if column is not None and column.role != "split" and column.name not in shown and finding.family != "privacy":
            shown.add(column.name)
            drawn.add(column.name)
            coded = finding.rule == "DAT001" and column.column.numeric
            seen = _as_stored(source.tables, column) if coded else _distribution(column, profile, sample)
            if seen is not None:
                yield Illustration(seen, place)
    for place, rows in examples(source.tables, findings):
        yield Illustration(rows, place)
    others = [c for c in profile.features if c.name not in drawn and sample and c.name in sample.features]
    numeric = [c for c in others if c.column.numeric]
    found = (_distribution(column, profile, sample) for column in numeric)
    for picture in islice((one for one in found if one is not None), _OTHERS):
        yield Illustration(picture)


def _target(profile: TableProfile, sample: TableSample | None) -> Picture | None:
    target = profile.target
    if target is None:
        return None
    if 0 < len(target.counts) <= _MOST_CLASSES and (target.column.kind != "float" or (sample and sample.classifies)):
        return bars(f"classes of {target.name}", {split.split: dict(split.values) for split in target.splits})
    return _distribution(target, profile, sample)


def _missing(profile: TableProfile) -> Bars | None:
    parts = [
        (column.name, {split.split: (split.nulls, split.rows) for split in column.splits})
        for column in profile.columns
        if column.role != "split"
    ]
    return shares("missing values by column", parts, "empty cells and NaN; codes such as -999 are not counted here")


def _distribution(column: ColumnProfiles, profile: TableProfile, sample: TableSample | None) -> Bars | Histogram | None:
    """A column's numbers as they were read (codes for missing values among them), or its commonest values."""
    if sample is not None and sample.kinds.get(column.name) in ("number", "time"):
        seen = {split.name: sample.column(split, column.name) for split in sample.splits}
        if sample.kinds[column.name] == "number":
            whole = all(split.whole for split in sample.splits)
            note = "" if whole else f"a sample of the {profile.rows:,} rows"
            return histogram(column.name, seen, note=note)
        return None
    if column.counts:
        by_split = {split.split: {_value(v): n for v, n in split.values} for split in column.splits}
        return bars(column.name, by_split)
    if sample is not None and sample.kinds.get(column.name) == "category":
        return bars(column.name, {split.name: counted(split.values[column.name]) for split in sample.splits})
    return None


def _as_stored(tables: Tables, column: ColumnProfiles) -> Histogram | None:
    """A column's numbers with the codes that stand for missing ones, which the sample leaves out."""
    key, every = settled(column.column), max(1, tables.rows // _READ)
    frame = tables.engine.frame(
        f"SELECT split_no, CAST({key} AS DOUBLE) AS v FROM data WHERE {key} IS NOT NULL AND row_no % {every} = 0"
    )
    seen = {
        name: frame["v"].to_numpy(dtype=float)[(frame["split_no"] == number).to_numpy()]
        for number, name in tables.each_split()
    }
    note = "" if every == 1 else f"one row in {every}"
    return histogram(column.name, seen, note=note)


def _value(text: str) -> str:
    return excerpt(text, LONGEST_CELL) or "(blank)"
