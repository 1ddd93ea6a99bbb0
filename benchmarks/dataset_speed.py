"""How long the default rules take on a table, against the bare SQL of nulls, duplicates, conflicts and leakage.

`python -m benchmarks.dataset_speed [--rows 2000000] [--memory-limit 1GB] [--growth]` writes the table (20 mixed columns, with
1 % repeated rows, 500 contradictions and 1,000 leaked rows) to a scratch folder and prints, for both, wall and CPU seconds
and the peak of memory, each in a process of its own, and what was found.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 500_000


def table(rows: int, seed: int) -> pd.DataFrame:
    g = np.random.default_rng(seed)
    floats = {f"f{i}": np.round(g.normal(i, 1 + i, rows), 4) for i in range(8)}
    floats["f3"][g.random(rows) < 0.03] = np.nan
    y = (floats["f0"] + floats["f1"] / 2 + g.logistic(0, 1, rows) > 0).astype(np.int64)
    return pd.DataFrame(
        {
            **floats, "i0": g.integers(0, 1_000_000, rows), "i1": g.poisson(3, rows), "const": np.ones(rows, np.int8),
            **{f"c{i}": pd.Categorical.from_codes(g.integers(0, n, rows), [f"v{j}" for j in range(n)]).astype(str)
               for i, n in enumerate((5, 20, 200, 5000))},
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(g.integers(0, 31_536_000, rows), unit="s"),
            "flag": g.random(rows) < 0.1,
            "t0": pd.Series(g.integers(0, 1 << 40, rows)).map("item {:x}".format),
            "t1": pd.Series(g.integers(0, 50_000, rows)).map("note on {}".format),
            "label": y,
        }
    )  # fmt: skip


def write(folder: Path, rows: int) -> None:
    test = max(rows // 10, 1000)
    with pq.ParquetWriter(
        folder / "train.parquet", pa.Table.from_pandas(table(10, 0), preserve_index=False).schema
    ) as file:
        for start in range(0, rows, CHUNK):
            part = table(min(CHUNK, rows - start), start)
            copies = len(part) // 100
            part = pd.concat([part.iloc[:-copies], part.iloc[:copies]], ignore_index=True)
            if not start:
                wrong = part.index[-min(500, copies // 2) :]
                part.loc[wrong, "label"] = 1 - part.loc[wrong, "label"]
                leaked = part.iloc[1000 : 1000 + test // 200]
            file.write_table(pa.Table.from_pandas(part, preserve_index=False))
    evaluation = pd.concat([table(test - len(leaked), 7), leaked], ignore_index=True)
    pq.write_table(pa.Table.from_pandas(evaluation, preserve_index=False), folder / "test.parquet")


def bare(folder: Path, memory: str | None, hashed: bool = False) -> dict[str, int]:
    import duckdb

    connection = duckdb.connect()
    if memory:
        connection.execute(f"SET memory_limit = '{memory}'")
        connection.execute(f"SET temp_directory = '{folder}'")
    train, test = (f"read_parquet('{folder}/{name}.parquet')" for name in ("train", "test"))
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {train}").fetchall()]
    features = ", ".join(name for name in names if name != "label")
    every = f"hash({', '.join(names)})" if hashed else ", ".join(names)
    inputs = f"hash({features})" if hashed else features

    def one(sql: str) -> int:
        return int(connection.execute(sql).fetchone()[0])

    nulls = connection.execute(f"SELECT {', '.join(f'count(*) - count({n})' for n in names)} FROM {train}").fetchone()
    repeated = one(f"SELECT sum(n - 1) FROM (SELECT count(*) AS n FROM {train} GROUP BY {every})")
    conflicts = one(f"SELECT count(*) FROM (SELECT 1 FROM {train} GROUP BY {inputs} HAVING min(label) <> max(label))")
    leaked = one(f"SELECT count(*) FROM (SELECT {inputs} FROM {test} INTERSECT SELECT {inputs} FROM {train})")
    return {"nulls": sum(nulls), "repeated": repeated, "conflicts": conflicts, "leaked": leaked}


def suite(folder: Path, memory: str | None) -> dict[str, object]:
    from doctor import diagnose_data

    paths = {name: str(folder / f"{name}.parquet") for name in ("train", "test")}
    report = diagnose_data(paths, target="label", memory_limit=memory)
    found = {
        f.rule: f.rows.count for f in report.findings if f.rows is not None and f.rule in ("DAT002", "DAT003", "DAT005")
    }
    return {**found, "rules": report.summary.rules_run, "skipped": [skip.reason for skip in report.skipped]}


def measured(folder: Path, what: str, memory: str | None) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.dataset_speed", "--only", what, "--folder", str(folder)]
    done = subprocess.run(command + (["--memory-limit", memory] if memory else []), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--memory-limit")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.only:
        began = time.monotonic()
        run = suite if options.only == "suite" else bare
        extra = (options.only == "hashed",) if options.only != "suite" else ()
        found = run(options.folder, options.memory_limit, *extra)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = round(usage.ru_utime + usage.ru_stime, 1)
        wall = round(time.monotonic() - began, 1)
        print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": usage.ru_maxrss // 1024, **found}))
        return
    for rows in (200_000, 2_000_000, 20_000_000) if options.growth else (options.rows,):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write(folder, rows)
            size = sum(path.stat().st_size for path in folder.iterdir()) >> 20
            print(f"{rows:,} rows, {size} MB of Parquet", flush=True)
            for what in ("bare", "hashed", "suite"):
                print(f"  {what:<7} {measured(folder, what, options.memory_limit)}", flush=True)


if __name__ == "__main__":
    main()
