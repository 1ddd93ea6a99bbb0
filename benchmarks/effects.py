"""Whether a mutant is sick at all: mutants run bare, beside the healthy program.

`python -m benchmarks.effects [--sample N] [--operator NAME] [NAMES ...]` prints the last line that each prints. What
turns out to be no fault goes into `equivalents.toml` with its reason.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.programs import sample, specimens, written


def last_line(path: Path) -> str:
    """What the script prints last; its error where it ends with one."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "PYTHONPATH": str(path.parent), "OMP_NUM_THREADS": "1"}
        try:
            ended = subprocess.run(
                [sys.executable, str(path)], cwd=scratch, capture_output=True, text=True, timeout=120, env=environment, check=False
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "TIMEOUT"
        text = ended.stdout if ended.returncode == 0 else ended.stderr
        return ("" if ended.returncode == 0 else "CRASH ") + (text.strip().splitlines() or ["nothing"])[-1][-110:]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--operator", action="append", default=[])
    parser.add_argument("--sample", type=int)
    options = parser.parse_args()
    chosen = specimens(options.names, options.operator)
    chosen = sample(chosen, options.sample) if options.sample else chosen
    known: dict[Path, str] = {}
    for specimen in sorted(chosen, key=lambda s: s.name):
        path = specimen.program.path
        if path not in known:
            known[path] = last_line(path)
            print(f"{specimen.program.name:<64} {known[path]}", flush=True)
        with written(specimen) as program:
            print(f"{specimen.name:<64} {last_line(program.path)}", flush=True)


if __name__ == "__main__":
    main()
