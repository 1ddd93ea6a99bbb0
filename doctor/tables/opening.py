"""From the source of a data set to its tables: the engine, the splits as it sees them, and the columns with their types."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from doctor.errors import DoctorError
from doctor.evidence.data_source import DataSource, DataSplit
from doctor.tables.columns import Column
from doctor.tables.dialect import literal
from doctor.tables.duck import DuckEngine
from doctor.tables.raw import Raw, distinct_names
from doctor.tables.tables import Engine, Tables
from doctor.tables.text_files import read_csv, read_json_lines
from doctor.tables.typing import typed

SPLIT_WORDS = {
    "training": "train",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "testing": "test",
    "eval": "test",
}
SMALL = 4_000_000  # values of a table that is copied into the engine
WIDE, COPIED = 40, 400_000_000  # a table of fewer rows than WIDE times its columns is copied, too, up to COPIED values


def opened(source: DataSource) -> Tables:
    """The tables of a source. Raises DoctorError for what is no table, and for a target or split column that is none."""
    engine: Engine
    if any(_is_spark(split.content) for split in source.splits):
        from doctor.tables.spark import spark_raw

        engine, raws = spark_raw([split.content for split in source.splits])
    else:
        duck = engine = DuckEngine(source.memory_limit)
        raws = [_raw(duck, number, split) for number, split in enumerate(source.splits)]
    names = tuple(dict.fromkeys(name for raw in raws for name in raw.names))
    split_names = tuple(split.name for split in source.splits)
    target = _known(source.target, names, "target")
    chosen = _known(source.split_column, names, "split column")
    columns, selects = typed(engine, raws, names, split_names, target)
    engine_lasting = all(raw.lasting for raw in raws)
    if chosen is not None:
        columns, split_names, selects = _divided(engine, columns, chosen, selects)
    union = " UNION ALL ".join(selects)
    total = None
    if source.sample is not None:
        total = engine.rows(f"SELECT count(*) FROM ({union}) AS u")[0][0]
        if total > source.sample:
            union, engine_lasting = engine.sampled(union, source.sample, total), False
        else:
            total = None
    if isinstance(engine, DuckEngine):
        engine.unordered()
    if engine_lasting and _large(engine, union, len(columns)):
        engine.view("data", union)
    else:
        engine.keep("data", union)
    tables = Tables(
        engine, columns, split_names,
        next((column for column in columns if column.name == target), None),
        next((column for column in columns if column.name == chosen), None),
        files=_by_split(source, split_names, lambda number: source.splits[number].files),
        file_rows=_by_split(source, split_names, lambda number: raws[number].file_rows),
        broken=tuple(row for raw in raws for row in raw.broken),
        encodings=tuple(getattr(engine, "encodings", ())),
        total_rows=total,
        notes=(*(note for raw in raws for note in raw.notes), *(_of_sample(total, source.sample) if total else ())),
    )  # fmt: skip
    if not tables.rows:
        raise DoctorError("the data set holds no rows that can be read", "is it a table, with one record a line?")
    return tables


def _of_sample(total: int, rows: int | None) -> list[str]:
    """What a sample can miss, said with the report."""
    share = (rows or total) / total
    rare = 1 - 0.05 ** (1 / max(rows or 1, 1))
    return [
        f"a sample of about {rows:,} of {total:,} rows was looked at: shares are exact to {0.98 / math.sqrt(rows or 1):.2%} and "
        f"a fault of {rare:.2g} of the rows or more shows with 95 % confidence; pairs of equal rows show only where both "
        f"were drawn ({share**2:.2%})"
    ]


def _large(engine: Engine, union: str, columns: int) -> bool:
    """Whether a copy would cost more than it saves: each question of a view plans all columns again (some 50 us for each,
    as long as 300 values take to be copied), and the wider a table, the more questions there are.
    """
    rows: int = engine.rows(f"SELECT count(*) FROM ({union}) AS u")[0][0]
    wide = rows <= WIDE * columns and rows * columns <= COPIED
    return rows * columns > SMALL and not wide


def _by_split(source: DataSource, names: Sequence[str], of: Any) -> dict[str, Any]:
    if len(source.splits) == 1:  # a split column divides one file
        return {name: of(0) for name in names}
    return {name: of(number) for number, name in enumerate(names)}


def _is_spark(content: Any) -> bool:
    return type(content).__module__.startswith("pyspark.")


def _known(name: str | None, names: Sequence[str], what: str) -> str | None:
    if name is None or name in names:
        return name
    near = get_close_matches(name, names, n=1) or [other for other in names if other.lower() == name.lower()]
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    raise DoctorError(
        f'no column "{name}" for the {what}', f'did you mean "{near[0]}"?' if near else f"there are: {shown}"
    )


def _raw(engine: DuckEngine, number: int, split: DataSplit) -> Raw:
    if split.form in ("csv", "tsv"):
        return read_csv(engine, number, split.files, split.form)
    if split.form == "jsonl":
        return read_json_lines(engine, number, split.files)
    if split.form == "parquet":
        return _parquet(engine, number, split.files)
    if split.form == "arrow":
        return _arrow_files(engine, number, split.files)
    return _frame(engine, number, split.content)


def _parquet(engine: DuckEngine, number: int, files: tuple[str, ...]) -> Raw:
    """A view on the files: nothing is copied."""
    import duckdb

    listed = f"[{', '.join(literal(file) for file in files)}]"
    source = f"read_parquet({listed}, union_by_name = true, file_row_number = true, filename = 'doctor file')"
    try:
        described = engine.rows(f"DESCRIBE SELECT * FROM {source}")
        counts: dict[str, int] = dict(engine.rows(f"SELECT file_name, num_rows FROM parquet_file_metadata({listed})"))
    except duckdb.Error as failure:
        reason = str(failure).strip().partition("\n")[0]
        raise DoctorError(f"{files[0]} cannot be read as Parquet ({reason})", "is it cut off or renamed?") from None
    kept = [(name, kind) for name, kind, *_ in described if name not in ("doctor file", "file_row_number")]
    file_rows = tuple(counts[file] for file in files)
    picked = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" AS r{i}' for i, (name, _) in enumerate(kept))
    if len(files) == 1:
        engine.view(f"raw_{number}", f"SELECT file_row_number AS row_no, {picked} FROM {source}")
    else:
        offsets = ", ".join(f"({literal(file)}, {sum(file_rows[:place])})" for place, file in enumerate(files))
        engine.keep(f"files_{number}", f"SELECT * FROM (VALUES {offsets}) AS f(name, first)")
        engine.view(
            f"raw_{number}",
            f'SELECT file_row_number + f.first AS row_no, {picked} FROM {source} AS p JOIN files_{number} AS f ON p."doctor file" = f.name',
        )
    return Raw(f"raw_{number}", tuple(name for name, _ in kept), tuple(kind for _, kind in kept), file_rows)


def _arrow_files(engine: DuckEngine, number: int, files: tuple[str, ...]) -> Raw:
    import pyarrow

    try:
        tables = [_arrow_file(file) for file in files]
    except pyarrow.ArrowInvalid as failure:
        raise DoctorError(f"{files[0]} cannot be read as Arrow ({failure})", "is it cut off or renamed?") from None
    joined = pyarrow.concat_tables(tables, promote_options="permissive")
    raw = _arrow(engine, number, joined)
    return replace(raw, file_rows=tuple(table.num_rows for table in tables))


def _arrow_file(file: str) -> Any:
    """A table in Arrow's file format, or in that of its streams (which the `datasets` library writes)."""
    import pyarrow
    import pyarrow.feather

    with pyarrow.memory_map(file) as stream:
        if stream.read(4) == b"\xff\xff\xff\xff":
            stream.seek(0)
            return pyarrow.ipc.open_stream(stream).read_all()
    return pyarrow.feather.read_table(file, memory_map=True)


def _frame(engine: DuckEngine, number: int, content: Any) -> Raw:
    """A live frame, through Arrow: no copy of what is columnar already."""
    from doctor.tables.frames import as_arrow

    table, mixed = as_arrow(content)
    return replace(_arrow(engine, number, table), mixed=mixed)


def _arrow(engine: DuckEngine, number: int, table: Any) -> Raw:
    import numpy
    import pyarrow

    names = distinct_names([str(name) for name in table.column_names])
    renamed = table.rename_columns([f"r{place}" for place in range(len(names))])
    renamed = renamed.append_column("row_no", pyarrow.array(numpy.arange(table.num_rows)))
    engine.connection.register(f"raw_{number}", renamed)
    types = {name: kind for name, kind, *_ in engine.rows(f"DESCRIBE raw_{number}")}
    return Raw(
        f"raw_{number}", tuple(names), tuple(types[f"r{place}"] for place in range(len(names))), (table.num_rows,)
    )


def _divided(
    engine: Engine, columns: tuple[Column, ...], chosen: str, selects: list[str]
) -> tuple[tuple[Column, ...], tuple[str, ...], list[str]]:
    """The splits that a column names. Raises DoctorError when it has more than a few values."""
    column = next(column for column in columns if column.name == chosen)
    union = " UNION ALL ".join(selects)
    text = engine.dialect.text(column.key)
    values = [row[0] for row in engine.rows(f"SELECT DISTINCT {text} FROM ({union}) AS u LIMIT 21")]
    if len(values) > 20:
        raise DoctorError(
            f'the split column "{chosen}" has more than 20 values', "name the column that says train or test"
        )
    words = {value: SPLIT_WORDS.get(str(value).lower(), str(value).lower()) for value in values}
    order = ("train", "valid", "test")
    names = sorted(set(words.values()), key=lambda name: (order.index(name) if name in order else -1, name))
    cases = " ".join(
        f"WHEN {text} = {literal(str(value))} THEN {names.index(word)}"
        for value, word in words.items()
        if value is not None
    )
    missing = names.index(words[None]) if None in words else -1
    kept = ", ".join(
        ("row_no", *(k for c in columns for k in ((c.key, f"t{c.key[1:]}") if c.unreadable else (c.key,))))
    )
    picked = f"SELECT CASE {cases} ELSE {missing} END AS split_no, {kept} FROM ({union}) AS u"
    return columns, tuple(names), [picked]
