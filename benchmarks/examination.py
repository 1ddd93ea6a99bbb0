"""One program examined: `doctor diagnose` on it, and its report held against the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.programs import Program

TIMEOUT_S = 300.0


class CouldNotLookError(RuntimeError):
    """The doctor gave no report: no silence, and no miss."""


@dataclass
class Answer:
    """One leading finding of a report, in the order of the report."""

    rule: str
    name: str
    severity: str
    verdict: str
    fits: bool
    on_line: bool
    line: int | None = None
    trial: str = ""  # the treatment that was tried, in words


@dataclass
class Outcome:
    """What came of one program. Answers are those of error or warning level that no other finding causes."""

    name: str
    fault: str
    operator: str = ""
    answers: list[Answer] = field(default_factory=list)
    found: bool = False  # among all findings that are not info
    seconds: float = 0.0
    failure: str = ""

    @property
    def sick(self) -> bool:
        """Whether there is something to find."""
        return self.fault != "none"

    @property
    def first(self) -> bool:
        """Whether the leading finding is the fault."""
        return self.sick and bool(self.answers) and self.answers[0].fits

    @property
    def on_line(self) -> bool:
        """Whether the leading finding is the fault and lies on one of its lines."""
        return self.first and self.answers[0].on_line

    @property
    def confirmed(self) -> bool:
        """Whether the leading finding is the fault, and was confirmed."""
        return self.first and self.answers[0].verdict == "confirmed"

    @property
    def alarms(self) -> list[str]:
        """Codes of the answers."""
        return [answer.rule for answer in self.answers]

    def dump(self) -> str:
        """One JSON line."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(line: str) -> Outcome:
        """The outcome of a JSON line."""
        values = json.loads(line)
        values["answers"] = [Answer(**answer) for answer in values["answers"]]
        return Outcome(**values)


def report_of(path: Path, options: Sequence[str] = (), threads: int | None = None) -> dict[str, Any]:
    """The doctor's report on a script; raises CouldNotLookError when there is none."""
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "doctor", "diagnose", str(path), "--isolated", "-q", "--output", str(target)]
        try:
            ended = subprocess.run(
                [*command, *options], cwd=scratch, check=False, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CouldNotLookError(f"{path} took more than {TIMEOUT_S:.0f} s") from None
        if not target.exists():
            raise CouldNotLookError(f"{path} could not be diagnosed: {ended.stderr.strip()[-500:]}")
        report: dict[str, Any] = json.loads(target.read_text())
        return report


def examine(
    program: Program, options: Sequence[str] = (), name: str = "", operator: str = "", threads: int | None = None
) -> Outcome:
    """Run the doctor on a program and compare."""
    started = time.monotonic()
    outcome = Outcome(name or program.name, program.fault, operator)
    names = {program.fault, *program.also}

    def fits(finding: dict[str, Any]) -> bool:
        return program.fault != "none" and bool(names & {finding["name"], *finding["faults"]})

    try:
        findings = report_of(program.path, options, threads)["findings"]
    except CouldNotLookError as failure:
        outcome.failure = str(failure)
        findings = []
    for finding in findings:
        if finding["severity"] == "info":
            continue
        outcome.found = outcome.found or fits(finding)
        if finding["caused_by"] is None:
            line = finding["location"]["line"]
            outcome.answers.append(
                Answer(
                    finding["rule"], finding["name"], finding["severity"], finding["verdict"], fits(finding),
                    line in program.lines, line, finding.get("treatment") or "",
                )
            )  # fmt: skip
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome
