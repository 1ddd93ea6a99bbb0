"""How long the default rules take on a table, against the bare SQL of nulls, duplicates, conflicts and leakage.

`python -m benchmarks.dataset_speed [--rows 2000000] [--growth] [--tenth] [--deepchecks PYTHON] [--memory-limit 1GB]` writes
the table (20 mixed columns, with 1 % repeated rows, 500 contradictions and 1,000 leaked rows) to a scratch folder and prints
wall and CPU seconds and the peak of memory, each run in a process of its own and one after the other, what was found, and
the ratios of the suite's seconds to those of the bare SQL (grouped by all columns, and by a row hash).

`--growth` does so for 0.2, 2 and 20 million rows (ROWS / 10, ROWS, 10 ROWS), `--tenth` runs the suite once more with a memory
limit of a tenth of the file, and `--deepchecks` compares with deepchecks' data suites, run by a Python that has them, on
10,000, 50,000 and 200,000 rows (`--seconds` is the limit of each such run).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 500_000
DRAWN = 2_000_000  # rows that are drawn one by one


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
    """Rows beyond `DRAWN` are those before with two columns moved, so that no row of one part stands in another."""
    drawn, test = min(rows, DRAWN), max(min(rows, DRAWN) // 10, 1000)
    with pq.ParquetWriter(
        folder / "train.parquet", pa.Table.from_pandas(table(10, 0), preserve_index=False).schema
    ) as file:
        for start in range(0, drawn, CHUNK):
            part = table(min(CHUNK, drawn - start), start)
            copies = len(part) // 100
            part = pd.concat([part.iloc[:-copies], part.iloc[:copies]], ignore_index=True)
            if not start:
                wrong = part.index[-min(500, copies // 2) :]
                part.loc[wrong, "label"] = 1 - part.loc[wrong, "label"]
                leaked = part.iloc[1000 : 1000 + test // 200]
            file.write_table(pa.Table.from_pandas(part, preserve_index=False))
    evaluation = pd.concat([table(test - len(leaked), 7), leaked], ignore_index=True)
    pq.write_table(pa.Table.from_pandas(evaluation, preserve_index=False), folder / "test.parquet")
    if rows > DRAWN:
        import duckdb

        first = (folder / "train.parquet").rename(folder / "first.parquet")
        parts = (
            f"SELECT * REPLACE (round(f1 + {k} * 0.01, 4) AS f1, (i0 + {7919 * k}) % 1000000 AS i0) FROM '{first}'"
            for k in range(rows // DRAWN)
        )
        connection = duckdb.connect()
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"COPY ({' UNION ALL '.join(parts)}) TO '{folder}/train.parquet' (FORMAT parquet)")
        first.unlink()


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


def measured(folder: Path, what: str, memory: str | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.dataset_speed", "--only", what, "--folder", str(folder)]
    done = subprocess.run(command + (["--memory-limit", memory] if memory else []), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(what: str, folder: Path, memory: str | None) -> None:
    """Run one side in this process and print what it took."""
    began = time.monotonic()
    found = suite(folder, memory) if what == "suite" else bare(folder, memory, what == "hashed")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = round(usage.ru_utime + usage.ru_stime, 1)
    wall = round(time.monotonic() - began, 1)
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": usage.ru_maxrss // 1024, **found}))


def compared(folder: Path, rows: int, memory: str | None, tenth: bool) -> float:
    """Print both sides on one table, side by side; the suite's CPU seconds."""
    size = sum(path.stat().st_size for path in folder.iterdir()) >> 20
    print(f"{rows:,} rows, {size} MB of Parquet" + (f", memory limit {memory}" if memory else ""), flush=True)
    runs = {}
    for what in ("bare", "hashed", "suite"):
        runs[what] = measured(folder, what, memory)
        print(f"  {what:<7} {runs[what]}", flush=True)
    for what in ("bare", "hashed"):
        cpu, wall = (runs["suite"][unit] / max(runs[what][unit], 0.1) for unit in ("cpu_s", "wall_s"))
        print(f"  suite / {what}: {cpu:.2f} x CPU, {wall:.2f} x wall", flush=True)
    if tenth:
        limit = f"{max(size // 10, 1)}MB"
        print(f"  suite within {limit}: {measured(folder, 'suite', limit)}", flush=True)
    return float(runs["suite"]["cpu_s"])


def against_deepchecks(folder: Path, rows: int, python: str, seconds: float) -> None:
    """Print what deepchecks' suites took on the same table, how far they came, and the ratio to ours."""
    own = measured(folder, "suite", None)
    child = [python, str(Path(__file__).parent / "deepchecks_suites.py"), str(folder)]
    with subprocess.Popen(child, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
        timer.cancel()
    done = bool(lines) and lines[-1]["check"] == "finished"
    cpu = sum(line["cpu_s"] for line in lines if line["check"] != "finished")
    wall = sum(line["wall_s"] for line in lines) if done else seconds
    slowest = sorted(lines, key=lambda line: -line["cpu_s"])[:3]
    print(
        f"{rows:,} rows: suite {own['cpu_s']} s CPU, {own['wall_s']} s wall, {own['peak_mb']} MB; deepchecks {cpu:.1f} s CPU, "
        f"{wall:.1f} s wall, {max((line['peak_mb'] for line in lines), default=0)} MB"
        + ("" if done else f" when it was stopped, after {len(lines) - 2} checks")
        + f": {cpu / own['cpu_s']:.1f} x CPU, {wall / own['wall_s']:.1f} x wall{'' if done else ' or more'}; slowest "
        + ", ".join(f"{line['check']} {line['cpu_s']}" for line in slowest)
        + "".join(f"; {line['check']} failed" for line in lines if "failed" in line),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--memory-limit")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--tenth", action="store_true")
    parser.add_argument("--deepchecks", metavar="PYTHON")
    parser.add_argument("--deepchecks-rows", type=int, nargs="*", default=(10_000, 50_000, 200_000))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.only:
        one(options.only, options.folder, options.memory_limit)
        return
    before = None
    for rows in (options.rows // 10, options.rows, 10 * options.rows) if options.growth else (options.rows,):
        if not rows:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch), rows)
            cpu = compared(Path(scratch), rows, options.memory_limit, options.tenth)
        if before is not None:
            print(f"  ten times the rows, {cpu / before:.1f} times the CPU seconds", flush=True)
        before = cpu
    for rows in options.deepchecks_rows if options.deepchecks else ():
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch), rows)
            against_deepchecks(Path(scratch), rows, options.deepchecks, options.seconds)


if __name__ == "__main__":
    main()
