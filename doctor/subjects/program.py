"""Programs: an unmodified script, or a declared case, run in a child process under observation."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from doctor.errors import DoctorError
from doctor.evidence.recording import Recording
from doctor.observe.child import Ended, run_child
from doctor.observe.plan import Plan, activation_steps
from doctor.subjects.forks import ForkServer
from doctor.trials.treatments import Treatment


@dataclass(frozen=True)
class Run:
    """How a program shall be run once; see `doctor.observe.plan.Plan`."""

    steps: int
    treatments: tuple[Treatment, ...] = ()
    seed_offset: int = 0
    light: bool = False
    hunt_step: int | None = None
    soft_seconds: float = 25.0
    threads: int | None = None


class Program(Protocol):
    """Something that trains and can be run again and again."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def parallel(self) -> bool:
        """Whether several runs may go on at once."""

    def run(self, run: Run, on_step: Callable[[int], None] | None = None) -> Recording:
        """Run it once under observation."""

    def prepared(self, recording: Recording) -> AbstractContextManager[Program]:
        """The program made ready for many runs, by what one recording of it shows."""


@dataclass(frozen=True)
class ScriptProgram:
    """A script (or `module.py:case`) that runs in a child process with its own arguments in the user's folder."""

    target: str
    arguments: tuple[str, ...] = ()
    timeout_s: float = 600.0
    folder: Path = field(default_factory=Path.cwd)
    parallel: bool = True
    forks: ForkServer | None = None

    @property
    def name(self) -> str:
        """The target as the user gave it."""
        return self.target

    def run(self, run: Run, on_step: Callable[[int], None] | None = None) -> Recording:
        """Run it once; what it prints is kept out of the user's sight, its end is always told."""
        with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
            events = os.path.join(scratch, "events.jsonl")
            plan = Plan(
                target=self.target,
                events=events,
                scratch=scratch,
                arguments=self.arguments,
                steps=run.steps,
                soft_seconds=run.soft_seconds,
                activation_steps=() if run.light else activation_steps(run.steps),
                hunt_step=run.hunt_step,
                seed_offset=run.seed_offset,
                treatments=tuple(treatment.plan() for treatment in run.treatments),
                light=run.light,
                parent=os.getpid(),
            )
            path = Path(scratch) / "plan.json"
            path.write_text(plan.dump(), encoding="utf-8")
            follow = _Follower(Path(events), on_step) if on_step else None
            ended = self.forks.run(path, run.threads, self.timeout_s, follow) if self.forks else None
            if ended is None:
                ended = run_child(
                    [sys.executable, "-P", "-c", "from doctor.subjects.entry import main; main()", str(path)],
                    cwd=self.folder,
                    environment=_environment(run.threads),
                    timeout_s=self.timeout_s,
                    on_poll=follow,
                )
            return _whole(Path(events), ended, self.target)

    @contextmanager
    def prepared(self, recording: Recording) -> Iterator[ScriptProgram]:
        """With a server that has imported what the program imports, so that each further run is a fork."""
        if not hasattr(os, "fork") or sys.platform == "darwin" or not recording.end.get("torch_imported"):
            yield self
            return
        server = ForkServer(["torch", *self._early(recording)], self.folder, _environment(None))
        try:
            yield replace(self, forks=server)
        finally:
            server.close()

    def _early(self, recording: Recording) -> list[str]:
        """Libraries that may be imported before the script: not when it sets variables which they read on import."""
        script = self.target.rpartition(":")[0] if self.target.count(".py:") else self.target
        if "environ" in Path(script).read_text("utf-8", "replace"):
            return []
        return list(recording.end.get("libraries", ()))


def script_program(target: str, arguments: tuple[str, ...], timeout_s: float) -> ScriptProgram:
    """The program that a target names; raises DoctorError when there is none."""
    path = Path(target)
    head, colon, case = target.rpartition(":")
    if colon and case.isidentifier() and head.endswith(".py"):
        path = Path(head)
    if path.is_dir():
        raise DoctorError(f"{target} is a folder", "name the training script in it")
    if not path.exists():
        beside = [str(other) for other in (path.parent if path.parent.exists() else Path()).glob("*.py")]
        near = get_close_matches(str(path), beside, n=1)
        raise DoctorError(
            f"no file {target}" + (f"; did you mean {near[0]}?" if near else ""), "give an existing script"
        )
    if path.suffix != ".py":
        cure = "give a .py file, or a recording made with --record"
        if path.suffix == ".txt":
            cure = f"to examine it as data, one text a line: --train {target}"
        raise DoctorError(f"{target} is no Python script", cure)
    return ScriptProgram(target, arguments, timeout_s)


def _environment(threads: int | None) -> dict[str, str]:
    environment = dict(os.environ)
    environment["PYTHONUNBUFFERED"] = "1"
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _whole(events: Path, ended: Ended, target: str) -> Recording:
    recording = Recording.read(events) if events.exists() else Recording(())
    if recording.end:
        return recording
    if not recording.start and not ended.timed_out:
        last = ended.stderr_tail.strip().splitlines()[-1:] or ["no output"]
        raise DoctorError(f"{target} could not be observed: {last[0]}", "please report")
    outcome = "timeout" if ended.timed_out else "killed"
    return recording.with_end(
        outcome=outcome,
        exit_code=ended.code,
        seconds=ended.seconds,
        steps=len(recording.of("step")),
        backwards=len(recording.of("backward")),
        torch_imported=recording.start.get("torch") is not None,
    )


class _Follower:
    """Reads how many steps the child has made, off the growing event file."""

    def __init__(self, path: Path, on_step: Callable[[int], None]) -> None:
        self._path, self._on_step, self._at, self._steps = path, on_step, 0, 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if not self._path.exists():
                return
            with self._path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
            self._at += len(new)
            self._steps += new.count(b'{"event": "step"')
            self._on_step(self._steps)
