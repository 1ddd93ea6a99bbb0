"""Rows of evidence as the rows of a finding."""

from __future__ import annotations

from doctor.evidence.table_rows import Rows
from doctor.findings import RowList, RowPlace


def listed(rows: Rows) -> RowList:
    """The same rows, as a finding names them."""
    first = tuple(RowPlace(split=row.split, row=row.number, path=row.path, value=row.value) for row in rows.first)
    return RowList(count=rows.count, of=rows.of, first=first, every=rows)
