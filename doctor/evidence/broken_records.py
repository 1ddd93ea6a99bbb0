"""Records of a file that could not be read, and files that are not what their encoding says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.probes import probe
from doctor.tables.columns import BrokenRow
from doctor.tables.tables import Tables


@dataclass(frozen=True)
class BrokenRecords(Evidence):
    """The broken records in order, of `records` in all, and the lines in another encoding by file."""

    broken: tuple[BrokenRow, ...]
    records: int
    encodings: tuple[tuple[str, int, tuple[int, ...]], ...] = ()
    headed: Mapping[str, int] = field(default_factory=dict)  # lines before the records, in files of one line a record

    def rows_of_lines(self, file: str, lines: Sequence[int]) -> tuple[int, ...]:
        """The rows (from 0) on these lines (from 1); none where records span lines, so that this is not told."""
        before = self.headed.get(file)
        return tuple(line - 1 - before for line in lines if line > before) if before is not None else ()

    def by_file(self) -> dict[str, list[BrokenRow]]:
        """The broken records of each file that has some."""
        found: dict[str, list[BrokenRow]] = {}
        for row in self.broken:
            found.setdefault(row.file, []).append(row)
        return found


@probe
def broken_records(source: DataSource) -> BrokenRecords:
    """What was noted when the files were read."""
    tables = source.tables
    if all(split.form not in ("csv", "tsv", "jsonl") for split in source.splits):
        raise Unavailable("no file of lines")
    headed = {file: before for file, _, _ in tables.encodings if (before := _before(tables, file)) is not None}
    return BrokenRecords(tables.broken, tables.rows + len(tables.broken), tables.encodings, headed)


def _before(tables: Tables, file: str) -> int | None:
    """Lines of a file that are no records (its header); None where records are not one a line."""
    records = {
        name: count
        for split, names in tables.files.items()
        for name, count in zip(names, tables.file_rows.get(split, ()), strict=False)
    }
    if file not in records or file.endswith((".gz", ".bz2", ".zst")):
        return None
    lines, last = 0, b"\n"
    with open(file, "rb") as content:
        for chunk in iter(lambda: content.read(1 << 20), b""):
            lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    before = lines + (last != b"\n") - records[file]
    return before if before in (0, 1) else None
