"""Starts the child that runs an artifact, and collects what it wrote. Imports neither torch nor a runtime."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from doctor.observe.child import run_child

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE", re.IGNORECASE)


def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a job in a child process; its results in order, the last of them `stopped` where it did not end by itself."""
    with tempfile.TemporaryDirectory(prefix="doctor-gate-") as scratch:
        folder = Path(scratch)
        results = folder / "results.jsonl"
        plan = {
            **job,
            "results": str(results),
            "scratch": str(folder / "scratch"),
            "parent": os.getpid(),
            "cwd": str(Path.cwd()),
        }
        (folder / "job.json").write_text(json.dumps(plan), encoding="utf-8")
        ended = run_child(
            [sys.executable, "-P", "-c", "from doctor.parity.child import main; main()", str(folder / "job.json")],
            cwd=Path.cwd(),
            environment=_environment(),
            timeout_s=job["timeout_s"],
            poll_s=0.05,
        )
        found = list(_lines(results))
    if ended.timed_out:
        found.append({"section": "stopped", "reason": f"it did not end within {job['timeout_s']:g} s"})
    elif not found or found[-1]["section"] not in ("done", "stopped"):
        how = f"signal {-ended.code}" if ended.code < 0 else f"status {ended.code}"
        tail = " ".join(ended.stderr_tail.split())[-200:]
        found.append({"section": "stopped", "reason": f"the process ended by {how}; {tail}".rstrip("; ")})
    return found


def _environment() -> dict[str, str]:
    """The user's own, since the reference may need it, without what looks like a secret; no network by the usual
    libraries, one thread.
    """
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return kept | quiet | {"PYTHONDONTWRITEBYTECODE": "1"}


def _lines(results: Path) -> Any:
    with contextlib.suppress(FileNotFoundError), results.open(encoding="utf-8") as stream:
        for line in stream:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)
