"""Records of a file that could not be read, and files that are not what their encoding says."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.probes import probe
from doctor.tables.columns import BrokenRow


@dataclass(frozen=True)
class BrokenRecords(Evidence):
    """The broken records in order, of `records` in all, and the lines in another encoding by file."""

    broken: tuple[BrokenRow, ...]
    records: int
    encodings: tuple[tuple[str, int, tuple[int, ...]], ...] = ()

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
    return BrokenRecords(tables.broken, tables.rows + len(tables.broken), tables.encodings)
