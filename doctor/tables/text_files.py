"""Files of lines: CSV, TSV and JSON lines, read whole as text, so that no value is lost before it was looked at."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from doctor.errors import DoctorError
from doctor.tables.columns import BrokenRow
from doctor.tables.dialect import literal
from doctor.tables.duck import DuckEngine
from doctor.tables.frames import Mixed
from doctor.tables.raw import Raw, distinct_names

DELIMITERS = (",", ";", "\t", "|")
_LINE = 1 << 26  # bytes of the longest line


def read_csv(engine: DuckEngine, number: int, files: tuple[str, ...], form: str) -> Raw:
    """All files of one split, their columns matched by name. Raises DoctorError for a file that is no table."""
    names: list[str] = []
    counts: list[int] = []
    broken: list[BrokenRow] = []
    notes: list[str] = []
    table = f"raw_{number}"
    for place, file in enumerate(files):
        readable, cleaned = _decoded(engine, file, f"{number}_{place}")
        head, delimiter, headed = _head(readable, file, form)
        notes += (
            cleaned if headed else [*cleaned, f"{file} has no header; its columns are called column0, column1, ..."]
        )
        new = [name for name in head if name not in names]
        if not place:
            names = list(head)
            listed = ", ".join(f"r{i} VARCHAR" for i in range(len(names)))
            engine.connection.execute(f"CREATE TABLE {table} (row_no BIGINT, {listed})")
        else:
            for name in new:
                engine.connection.execute(f"ALTER TABLE {table} ADD COLUMN r{len(names)} VARCHAR")
                names.append(name)
        rejected = _insert_csv(engine, table, readable, head, names, delimiter, headed, sum(counts))
        rows = engine.rows(f"SELECT count(*) FROM {table}")[0][0] - sum(counts) + len(broken)
        broken += [BrokenRow(file, line, row, reason, text) for line, row, reason, text in rejected]
        counts.append(rows + len(rejected))
    _renumber(engine, table, broken, dict(zip(files, _offsets(counts), strict=True)))
    return Raw(
        table, tuple(names), ("VARCHAR",) * len(names), tuple(counts), tuple(broken), tuple(notes), lasting=False
    )


def _insert_csv(
    engine: DuckEngine,
    table: str,
    file: str,
    head: list[str],
    names: list[str],
    delimiter: str,
    headed: bool,
    offset: int,
) -> list[tuple[int, int, str, str]]:
    """Append a file's good records (numbered without the broken ones); line, row, reason and text of the broken."""
    import duckdb

    columns = ", ".join(f"{literal(f'f{i}')}: 'VARCHAR'" for i in range(len(head)))
    picked = ", ".join(f"f{i}" for i in range(len(head)))
    places = {name: place for place, name in enumerate(names)}
    into = ", ".join(f"r{places[name]}" for name in head)
    connection = engine.connection
    for scratch in ("reject_errors", "reject_scans"):
        connection.execute(f"DROP TABLE IF EXISTS {scratch}")
    try:
        connection.execute(
            f"INSERT INTO {table} (row_no, {into}) SELECT {offset} + row_number() OVER () - 1, {picked} FROM read_csv("
            f"{literal(file)}, auto_detect = false, delim = {literal(delimiter)}, quote = '\"', escape = '\"', "
            f"header = {str(headed).lower()}, columns = {{{columns}}}, ignore_errors = true, store_rejects = true, "
            f"rejects_limit = 0, max_line_size = {_LINE}, null_padding = false)"
        )
        rejects = connection.execute(
            "SELECT DISTINCT ON (line) line, error_type, csv_line FROM reject_errors ORDER BY line"
        ).fetchall()
    except duckdb.Error as failure:
        reason = str(failure).strip().partition("\n")[0]
        raise DoctorError(
            f"{file} cannot be read as a table ({reason})", "is it CSV, with one record a line?"
        ) from None
    first = 2 if headed else 1
    broken = []
    for line, kind, text in rejects:
        reason, own = str(kind).lower().replace("_", " "), text or ""
        # A quote that is never closed takes all lines to the next quote, or to the end, with it.
        own, *swallowed = own.rstrip("\n").split("\n") if kind == "UNQUOTED VALUE" else [own]
        broken.append((line, line - first, reason, own))
        broken += [
            (line + n, line + n - first, "an open quote before them", lost) for n, lost in enumerate(swallowed, start=1)
        ]
    return broken


def _offsets(counts: list[int]) -> list[int]:
    return [sum(counts[:place]) for place in range(len(counts))]


def _renumber(engine: DuckEngine, table: str, broken: list[BrokenRow], offsets: dict[str, int]) -> None:
    """Let the numbers of the good rows count the broken ones before them, too."""
    if not broken:
        return
    places = sorted(offsets[row.file] + row.row for row in broken)
    listed = ", ".join(f"({place - before}, {before + 1})" for before, place in enumerate(places))
    engine.connection.execute(f"CREATE OR REPLACE TABLE gaps AS SELECT * FROM (VALUES {listed}) AS g(good, shift)")
    engine.connection.execute(
        f"CREATE TABLE {table}_new AS SELECT t.* REPLACE (t.row_no + coalesce(g.shift, 0) AS row_no) FROM {table} t "
        f"ASOF LEFT JOIN (SELECT good, max(shift) AS shift FROM gaps GROUP BY good) g ON t.row_no >= g.good"
    )
    engine.connection.execute(f"DROP TABLE {table}")
    engine.connection.execute(f"ALTER TABLE {table}_new RENAME TO {table}")


def opened_file(path: str) -> IO[bytes]:
    """A file's bytes, unpacked where it is packed."""
    if path.endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return cast(IO[bytes], bz2.open(path, "rb")) if path.endswith(".bz2") else Path(path).open("rb")


def _decoded(engine: DuckEngine, file: str, tag: str) -> tuple[str, list[str]]:
    """The file, or a copy in UTF-8 where it is written otherwise, with a note on what was done."""
    with opened_file(file) as content:
        head = content.read(4096)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            content.seek(0)
            text = content.read().decode("utf-16", "replace")
            return _copied(engine, iter([text]), tag), [f"{file} is UTF-16"]
        if b"\0" in head:
            raise DoctorError(
                f"{file} is no text", "a CSV or JSONL file is expected by its name; Parquet is told by content"
            )
        content.seek(0)
        if _is_utf8(content):
            return (file, []) if not file.endswith(".bz2") else (_copied(engine, _lines(file), tag), [])
    wrong = [line for line, text in enumerate(_lines(file, strict=True), start=1) if text is None]
    engine.encodings.append((file, len(wrong), tuple(wrong)))
    return _copied(engine, _lines(file), tag), []


def _is_utf8(content: IO[bytes]) -> bool:
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in iter(lambda: content.read(1 << 20), b""):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _lines(file: str, strict: bool = False) -> Iterator[str | None]:
    with opened_file(file) as content:
        for line in content:
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                yield None if strict else line.decode("cp1252", "replace")


def _copied(engine: DuckEngine, lines: Iterator[str | None], tag: str) -> str:
    path = f"{engine.scratch}/decoded_{tag}.txt"
    with Path(path).open("w", encoding="utf-8", newline="") as copy:
        for line in lines:
            copy.write(line or "")
    return path


def _head(readable: str, file: str, form: str) -> tuple[list[str], str, bool]:
    """Column names, delimiter, and whether the first line holds the names."""
    with opened_file(readable) as content:
        text = content.read(1 << 16).decode("utf-8-sig", "ignore")
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if not lines:
        raise DoctorError(f"{file} is empty", "a data set needs rows")
    delimiter = "\t" if form == "tsv" else max(DELIMITERS, key=lambda sign: _consistency(text, sign))
    records = [record for record in csv.reader(io.StringIO(text), delimiter=delimiter) if record][:2]
    first = records[0]
    headed = not (all(map(_number, first)) and len(records) > 1)
    names = distinct_names(first) if headed else [f"column{place}" for place in range(len(first))]
    return names, delimiter, headed


def _consistency(text: str, delimiter: str) -> float:
    """Fields of the first record where most of the next records have as many; 0 where it divides nothing."""
    records = [record for record in csv.reader(io.StringIO(text), delimiter=delimiter) if record][:30]
    width = len(records[0])
    alike = sum(len(record) == width for record in records) / len(records)
    return width * alike if width > 1 else 0.0


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_json_lines(engine: DuckEngine, number: int, files: tuple[str, ...]) -> Raw:
    """Each line an object, whose keys are the columns, as text; lines that hold no object are broken records."""
    lines, table = f"lines_{number}", f"raw_{number}"
    counts: list[int] = []
    notes: list[str] = []
    engine.connection.execute(f"CREATE TABLE {lines} (row_no BIGINT, file_no INTEGER, line VARCHAR)")
    for place, file in enumerate(files):
        readable, cleaned = _decoded(engine, file, f"{number}_{place}")
        notes += cleaned
        readable = _as_lines(engine, readable, f"{number}_{place}")
        engine.connection.execute(
            f"INSERT INTO {lines} SELECT {sum(counts)} + row_number() OVER () - 1, {place}, line FROM read_csv("
            f"{literal(readable)}, auto_detect = false, delim = '\x01', quote = '', escape = '', header = false, "
            f"columns = {{'line': 'VARCHAR'}}, max_line_size = {_LINE})"
        )
        counts.append(engine.rows(f"SELECT count(*) FROM {lines}")[0][0] - sum(counts))
    engine.connection.execute(
        f"CREATE TABLE {lines}_good AS SELECT row_no, line FROM {lines} "
        f"WHERE CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END"
    )
    wrong = engine.rows(
        f"SELECT row_no, file_no, line FROM {lines} ANTI JOIN {lines}_good USING (row_no) "
        f"WHERE trim(line) <> '' ORDER BY row_no"
    )
    lines += "_good"
    offsets = _offsets(counts)
    broken = tuple(
        BrokenRow(files[place], row - offsets[place] + 1, row - offsets[place], "no JSON object", line)
        for row, place, line in wrong
    )
    structure = engine.rows(f"SELECT json_keys(line) FROM {lines} GROUP BY ALL LIMIT 100000")
    names = list(dict.fromkeys(key for (keys,) in structure for key in keys))
    if not names:
        raise DoctorError(f"{files[0]} holds no JSON objects", "JSON lines are expected: one object a line")
    listed = ", ".join(f"json_extract_string(line, {literal(_path(name))}) AS r{i}" for i, name in enumerate(names))
    engine.connection.execute(f"CREATE TABLE {table} AS SELECT row_no, {listed} FROM {lines}")
    types, mixed = _json_types(engine, lines, names)
    return Raw(table, tuple(names), types, tuple(counts), broken, tuple(notes), mixed, lasting=False)


def _path(name: str) -> str:
    return '$."' + name.replace('"', '\\"') + '"'


_JSON_TYPES = {
    "text": ("VARCHAR",), "number": ("BIGINT", "UBIGINT", "HUGEINT", "DOUBLE"), "boolean": ("BOOLEAN",),
    "list": ("ARRAY",), "object": ("OBJECT",),
}  # fmt: skip


def _json_types(engine: DuckEngine, lines: str, names: list[str]) -> tuple[tuple[str, ...], Mixed]:
    """Text for every key, but lists and objects, which stay what they are; and the keys with several types."""
    counts: list[int] = []
    wanted = [
        f"count(*) FILTER (WHERE json_type(line, {literal(_path(name))}) IN ({', '.join(map(literal, kinds))}))"
        for name in names
        for kinds in _JSON_TYPES.values()
    ]
    for start in range(0, len(wanted), 400):
        counts += engine.rows(f"SELECT {', '.join(wanted[start : start + 400])} FROM {lines}")[0]
    types, mixed, width = [], [], len(_JSON_TYPES)
    for place, name in enumerate(names):
        own = dict(zip(_JSON_TYPES, counts[place * width : (place + 1) * width], strict=True))
        types.append("STRUCT" if own["list"] or own["object"] else "VARCHAR")
        several = tuple((kind, count) for kind, count in own.items() if count)
        if len(several) > 1:
            mixed.append((name, several))
    return tuple(types), tuple(mixed)


def _as_lines(engine: DuckEngine, file: str, tag: str) -> str:
    """A file that holds one list of objects, as lines; any other as it is."""
    with opened_file(file) as content:
        if content.read(64).lstrip()[:1] != b"[":
            return file
        content.seek(0)
        try:
            records = json.loads(content.read())
        except ValueError:
            return file
    return _copied(engine, (json.dumps(record) + "\n" for record in records), f"list_{tag}")
