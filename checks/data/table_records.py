"""Records that cannot be read, and text that was decoded wrongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from doctor.evidence.broken_records import BrokenRecords
from doctor.evidence.column_facts import ColumnFacts
from doctor.findings import Finding, Location, Measure, RowList, RowPlace, Severity
from doctor.registry import Limits, check

from ._rows import listed


class GarbledLimits(Limits):
    """Thresholds of DAT020."""

    min_rows: int = 2  # of a column; one may be a quotation


@check("DAT017", "malformed-records", Severity.ERROR, faq="training/data/incorrect")
def malformed_records(records: BrokenRecords) -> Iterator[Finding]:
    """Lines of a file are no whole record.

    ## What it measures
    Lines of CSV with more or fewer fields than the header, or with a quote that does not end; lines of JSON that are no
    object. They were left out of everything else that this report says.
    ## Why it hurts
    Readers drop such lines, shift their fields, or swallow the lines that follow, each in its own way and often silently.
    ## Example
    ```python
    frame = pd.read_csv("reviews.csv", on_bad_lines="skip")
    ```
    ## Use instead
    ```python
    frame = pd.read_csv("reviews.csv", on_bad_lines="error")
    ```
    ## When it is right
    A blank line is no record, and quoted fields may hold delimiters and line ends: these are silent.
    ## References
    RFC 4180, "Common Format and MIME Type for CSV Files" (2005); https://jsonlines.org.
    """
    for file, rows in records.by_file().items():
        reasons = ", ".join(
            f"{count:,} with {reason}" for reason, count in Counter(r.reason for r in rows).most_common(4)
        )
        first = tuple(RowPlace(split="", row=row.row, path=file, value=f"line {row.line}") for row in rows[:20])
        yield Finding(
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


@check("DAT020", "text-encoding", Severity.ERROR, faq="training/data/incorrect")
def text_encoding(records: BrokenRecords | None, facts: ColumnFacts | None, limits: GarbledLimits) -> Iterator[Finding]:
    """Text was decoded with another encoding than it was written in.

    ## What it measures
    Values with the marks of UTF-8 that was read as Latin-1 or Windows-1252 (`Ã©` for `é`), or with replacement
    characters; and lines of a file that are no UTF-8, while others are.
    ## Why it hurts
    `café` and `cafÃ©` are two words to every tokenizer and two categories to every encoder.
    ## Example
    ```python
    frame = pd.read_csv("reviews.csv", encoding="latin-1")
    ```
    ## Use instead
    ```python
    frame = pd.read_csv("reviews.csv", encoding="utf-8")
    ```
    ## When it is right
    Accented text in proper encoding is silent; a single value may be a quotation, and is info.
    ## References
    Speer, "ftfy: fixes text for you" (2019), for the marks.
    """
    for file, count, lines in records.encodings if records else ():
        yield Finding(
            message=f"{count:,} lines of {file} are no UTF-8, while the others are: "
            f"{', '.join(map(str, lines[:10]))}{', ...' if count > 10 else ''}",
            location=Location(path=file, line=lines[0]),
            measured={"lines": Measure(value=count, threshold=0)},
            remedy="find the source that writes another encoding, and convert it to UTF-8",
        )
    for garbled in facts.garbled if facts else ():
        value = garbled.rows.first[0].value if garbled.rows.first else ""
        yield Finding(
            severity=Severity.ERROR if garbled.rows.count >= limits.min_rows else Severity.INFO,
            message=f'{garbled.rows.count:,} values of {garbled.column} were decoded wrongly, as "{value}"',
            location=Location(column=garbled.column),
            measured={"rows": Measure(value=garbled.rows.count, threshold=limits.min_rows)},
            rows=listed(garbled.rows),
            remedy='read the source as UTF-8 (text.encode("cp1252").decode("utf-8") mends what is not lost)',
        )
