"""Stretches of rows that stand twice in one order: a part of the data that was delivered twice, whatever its values are."""

from __future__ import annotations

from doctor.evidence.table_rows import Rows
from doctor.tables.dialect import settled
from doctor.tables.tables import Tables

WINDOW = 8  # rows in one order that coincidence does not bring forth twice
CHANGES = 4  # of neighbours among them that differ: sorted rows are alike by being sorted
MOST = 5_000_000  # rows of a table in which this is asked


def redelivered(tables: Tables, split: str, hashes: str = "hashes") -> Rows | None:
    """The rows of a split (targets included) that belong to a stretch that stood earlier; None where there are none.

    `hashes` is the relation (split_no, row_no, h) of the features' hashes. A plan of experiments repeats its features in
    one order, but not its targets: without a target nothing is said.
    """
    if tables.target is None or tables.rows_by_split[split] > MOST:
        return None
    number, text = tables.splits.index(split), tables.dialect.text
    row = f"md5(concat_ws('|', {text('h.h')}, coalesce({text(settled(tables.target, f'd.{tables.target.key}'))}, '')))"
    changes = " + ".join(f"CASE WHEN r{k} <> r{k + 1} THEN 1 ELSE 0 END" for k in range(WINDOW - 1))
    named = ", ".join(f"lead(r, {k}) OVER o AS r{k}" if k else "r AS r0" for k in range(WINDOW))
    whole = ", ".join(f"r{k}" for k in range(WINDOW))
    tables.engine.keep(
        "stretches",
        f"SELECT row_no, w, row_number() OVER (PARTITION BY w ORDER BY row_no) AS k FROM ("
        f"SELECT row_no, md5(concat_ws('|', {whole})) AS w FROM ("
        f"SELECT row_no, {named} FROM (SELECT d.row_no, {row} AS r FROM data AS d JOIN {hashes} AS h ON "
        f"d.split_no = h.split_no AND d.row_no = h.row_no WHERE d.split_no = {number}) AS a "
        f"WINDOW o AS (ORDER BY row_no)) AS b WHERE r{WINDOW - 1} IS NOT NULL AND {changes} >= {CHANGES}) AS c",
    )
    ends = " UNION ".join(f"SELECT row_no + {k} AS row_no FROM stretches WHERE k > 1" for k in range(WINDOW))
    sql = f"SELECT {number} AS split_no, row_no FROM ({ends}) AS e"
    (count,) = tables.engine.rows(f"SELECT count(*) FROM ({sql}) AS n")[0]
    return Rows(int(count), tables.rows_by_split[split], tables, sql) if count else None
