"""What the doctor finds on every patient of `fixtures/`: `python -m benchmarks.accuracy [--no-confirm] [NAME ...]`.

Prints one line a program, then the rates. A sick program is found first when the leading finding (not info) carries its
fault's name, and right in line when that finding lies on one of the lines that its table of patients names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


@dataclass
class Outcome:
    """One program."""

    name: str
    fault: str
    first: bool = False
    found: bool = False
    line: bool | None = None
    verdict: str = ""
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0


def patients(names: list[str]) -> list[tuple[Path, dict[str, Any]]]:
    """Every program with its truth."""
    found = []
    for table in sorted(FIXTURES.glob("*/patients.toml")):
        for patient in tomllib.loads(table.read_text())["patient"]:
            path = table.parent / patient["file"]
            if not names or any(name in str(path) for name in names):
                found.append((path, patient))
    return found


def examine(path: Path, truth: dict[str, Any], extra: list[str]) -> Outcome:
    """Run `doctor diagnose` and hold its report against the truth."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "report.json"
        command = [
            sys.executable,
            "-m",
            "doctor",
            "diagnose",
            str(path),
            "--isolated",
            "-q",
            "--output",
            str(target),
            *extra,
        ]
        ended = subprocess.run(command, cwd=scratch, check=False, capture_output=True, text=True)
        if not target.exists():
            # No report is no silence: the rates of a benchmark that could not look mean nothing.
            raise SystemExit(f"{path} could not be diagnosed: {ended.stderr.strip()[-500:]}")
        report = json.loads(target.read_text())
    outcome = Outcome(f"{path.parent.name}/{path.name}", truth["fault"], seconds=time.monotonic() - started)
    alarms = [f for f in report["findings"] if f["severity"] != "info" and f["caused_by"] is None]
    outcome.alarms = [f["rule"] for f in alarms]
    if truth["fault"] == "none":
        return outcome
    names = {truth["fault"], *truth.get("also", [])}

    def fits(finding: dict[str, Any]) -> bool:
        return bool(names & {finding["name"], *finding["faults"]})

    outcome.found = any(fits(f) for f in report["findings"] if f["severity"] != "info")
    outcome.first = bool(alarms) and fits(alarms[0])
    if outcome.first:
        outcome.line = alarms[0]["location"]["line"] in truth["lines"]
        outcome.verdict = alarms[0]["verdict"]
    return outcome


def main() -> None:
    """Examine all, print the table and the rates."""
    extra = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    outcomes = []
    for path, truth in patients(names):
        outcome = examine(path, truth, extra)
        outcomes.append(outcome)
        mark = "ok  " if (outcome.first if outcome.fault != "none" else not outcome.alarms) else "MISS"
        line = "" if outcome.line is None else ("line" if outcome.line else "LINE?")
        seen = " ".join(outcome.alarms) or "-"
        print(f"{mark} {outcome.name:<44} {outcome.fault:<26} {seen:<24} {line:<5} {outcome.verdict:<13} "
              f"{outcome.seconds:5.1f} s", flush=True)  # fmt: skip
    sick = [o for o in outcomes if o.fault != "none"]
    healthy = [o for o in outcomes if o.fault == "none"]
    first = [o for o in sick if o.first]
    print()
    print(
        f"sick: {len(sick)}; found first {len(first)}; found {sum(o.found for o in sick)}; "
        f"right line {sum(bool(o.line) for o in first)}; confirmed {sum(o.verdict == 'confirmed' for o in first)}"
    )
    print(f"healthy: {len(healthy)}; silent {sum(not o.alarms for o in healthy)}")


if __name__ == "__main__":
    main()
