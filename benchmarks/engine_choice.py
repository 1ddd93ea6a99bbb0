"""The measurement behind docs/engines.md: exact duplicates of a frame, by three ways of writing the question once.

`python -m benchmarks.engine_choice [rows]` times, on a pandas and a Polars frame of 20 columns that are already in memory:
narwhals (group by all columns), narwhals with the engine's own row hash (Polars has one, pandas one of its own), and SQL on
DuckDB over the frame's Arrow columns with `hash`, as the data rules ask it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import duckdb
import narwhals as nw
import pandas as pd
import polars as pl

from benchmarks.dataset_speed import table
from doctor.tables.frames import as_arrow


def timed(name: str, question: Callable[[], int]) -> None:
    wall, cpu = time.monotonic(), time.process_time()
    found = question()
    print(
        f"{name:<42} {time.monotonic() - wall:6.2f} s wall {time.process_time() - cpu:6.2f} s CPU   {found:,} repeated"
    )


def all_columns(frame: object) -> int:
    own = nw.from_native(frame, eager_only=True)
    groups = own.group_by(own.columns, drop_null_keys=False).agg(nw.len().alias("how_many"))
    return len(own) - len(groups)


def sql(frame: object) -> int:
    arrow, _ = as_arrow(frame)
    connection = duckdb.connect()
    connection.register("data", arrow)
    names = ", ".join(f'"{name}"' for name in arrow.column_names)
    return int(
        connection.execute(
            f"SELECT sum(n - 1) FROM (SELECT count(*) AS n FROM data GROUP BY hash({names}))"
        ).fetchone()[0]
    )


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    part = table(rows, 0)
    frame = pd.concat([part.iloc[: -rows // 100], part.iloc[: rows // 100]], ignore_index=True)
    polars = pl.from_pandas(frame)
    timed("pandas, narwhals by all columns", lambda: all_columns(frame))
    timed(
        "pandas, narwhals and pandas' row hash",
        lambda: len(frame) - pd.util.hash_pandas_object(frame, index=False).nunique(),
    )
    timed("pandas, SQL on DuckDB", lambda: sql(frame))
    timed("Polars, narwhals by all columns", lambda: all_columns(polars))
    timed("Polars, narwhals and Polars' row hash", lambda: len(polars) - polars.hash_rows().n_unique())
    timed("Polars, SQL on DuckDB", lambda: sql(polars))


if __name__ == "__main__":
    main()
