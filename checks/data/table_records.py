"""Records that cannot be read, and text that was decoded wrongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from doctor.evidence.broken_records import BrokenRecords
from doctor.evidence.column_facts import ColumnFacts
from doctor.findings import Finding, Location, Measure, RowList, RowPlace, Severity
from doctor.registry import Limits, look

from ._rows import listed


class GarbledLimits(Limits):
    """Thresholds of DAT020."""

    min_rows: int = 2  # of a column; one may be a quotation


@look("DAT017")
def malformed_rows(records: BrokenRecords) -> Iterator[Finding]:
    """Lines of a table that are no whole record: fields too many or too few, quotes that do not end (RFC 4180)."""
    for file, rows in records.by_file().items():
        reasons = ", ".join(
            f"{count:,} with {reason}" for reason, count in Counter(r.reason for r in rows).most_common(4)
        )
        first = tuple(RowPlace(split="", row=row.row, path=file, value=f"line {row.line}") for row in rows[:20])
        yield Finding(
            faults=("malformed-records",),
            message=f"{len(rows):,} records of {file} are broken ({reasons}): lines "
            f"{', '.join(str(row.line) for row in rows[:10])}{', ...' if len(rows) > 10 else ''}",
            location=Location(path=file, line=rows[0].line),
            measured={"records": Measure(value=len(rows), threshold=0), "of": Measure(value=records.records)},
            rows=RowList(
                count=len(rows), of=records.records, first=first, every=tuple(("", r.file, r.row) for r in rows)
            ),
            remedy="mend or drop these lines, and let the reader fail on broken ones",
            demonstrated="these lines do not parse",
        )


def _on_lines(records: BrokenRecords, file: str, lines: Sequence[int], count: int) -> RowList | None:
    rows = records.rows_of_lines(file, lines)
    first = tuple(
        RowPlace(split="", row=row, path=file, value=f"line {line}") for row, line in zip(rows, lines, strict=False)
    )
    every = tuple(("", file, row) for row in rows)
    return RowList(count=count, of=records.records, first=first[:20], every=every) if rows else None


@look("DAT020")
def garbled_columns(
    records: BrokenRecords | None, facts: ColumnFacts | None, limits: GarbledLimits
) -> Iterator[Finding]:
    """Columns of a table that were decoded with another encoding than they were written in."""
    for file, count, lines in records.encodings if records else ():
        yield Finding(
            faults=("text-encoding",),
            message=f"{count:,} lines of {file} are no UTF-8, while the others are: "
            f"{', '.join(map(str, lines[:10]))}{', ...' if count > 10 else ''}",
            location=Location(path=file, line=lines[0]),
            measured={"lines": Measure(value=count, threshold=0)},
            rows=_on_lines(records, file, lines, count) if records else None,
            remedy="find the source that writes another encoding, and convert it to UTF-8",
        )
    for garbled in facts.garbled if facts else ():
        value = garbled.rows.first[0].value if garbled.rows.first else ""
        yield Finding(
            faults=("text-encoding",),
            severity=Severity.ERROR if garbled.rows.count >= limits.min_rows else Severity.INFO,
            message=f'{garbled.rows.count:,} values of {garbled.column} were decoded wrongly, as "{value}"',
            location=Location(column=garbled.column),
            measured={"rows": Measure(value=garbled.rows.count, threshold=limits.min_rows)},
            rows=listed(garbled.rows),
            remedy='read the source as UTF-8 (text.encode("cp1252").decode("utf-8") mends what is not lost)',
        )
