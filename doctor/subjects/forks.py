"""Forked runs: a server process that has imported torch, and forks for every arm of a trial.

Importing torch (and transformers, scikit-learn ...) takes seconds, a fork of a process that has them milliseconds. No
thread runs in the server, and no accelerator is touched there, so that its forks are safe.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doctor.observe.child import Ended, descendants, die_with_parent, kill_group

_POLL_S = 0.02


class ForkServer:
    """A server process; `run` is like `run_child` for a plan. Closing it kills it and every run."""

    def __init__(self, libraries: Sequence[str], cwd: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, "-P", "-c", "from doctor.subjects.forks import serve; serve()"]
        self._process = subprocess.Popen(
            [*command, str(os.getpid()), *libraries],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._ended: dict[str, int] = {}
        self._started: dict[str, int] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def run(
        self, plan: Path, threads: int | None, timeout_s: float, on_poll: Callable[[], None] | None = None
    ) -> Ended | None:
        """Run one plan to its end or to the time limit; None when the server cannot."""
        started = time.monotonic()
        name, err = str(plan), plan.with_suffix(".err")
        request = json.dumps({"plan": name, "err": str(err), "threads": threads})
        try:
            with self._lock:
                assert self._process.stdin is not None
                self._process.stdin.write(request.encode() + b"\n")
                self._process.stdin.flush()
        except OSError:
            return None
        timed_out = False
        try:
            with self._changed:
                while name not in self._ended:
                    if self._process.poll() is not None:
                        return None
                    if time.monotonic() - started > timeout_s:
                        timed_out = True
                        break
                    self._changed.wait(0.1)
                    if on_poll is not None:
                        on_poll()
        finally:
            code = self._ended.get(name)
            pid = self._started.get(name)
            if pid is not None:
                kill_group(pid, descendants(pid) if code is None else set())
        tail = err.read_text("utf-8", "replace")[-64_000:] if err.exists() else ""
        return Ended(code if code is not None else -signal.SIGKILL, timed_out, time.monotonic() - started, "", tail)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._changed:
                if "pid" in told:
                    self._started[told["plan"]] = told["pid"]
                else:
                    self._ended[told["plan"]] = told["code"]
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the server with all its runs."""
        below = descendants(self._process.pid)
        kill_group(self._process.pid, below)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def serve() -> None:
    """The server: import, then fork for every request on stdin, and tell each run's start and end on stdout."""
    die_with_parent(int(sys.argv[1]))
    for name in sys.argv[2:]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    tell, ask = os.dup(1), os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    running: dict[int, str] = {}
    buffered = b""
    while True:
        ready, _, _ = select.select([ask], [], [], _POLL_S if running else 5.0)
        if ready:
            more = os.read(ask, 65536)
            if not more:
                return
            buffered += more
            while b"\n" in buffered:
                line, _, buffered = buffered.partition(b"\n")
                request = json.loads(line)
                pid = _fork(request, (ask, tell))
                running[pid] = request["plan"]
                _say(tell, plan=request["plan"], pid=pid)
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                _say(tell, plan=running.pop(pid), code=os.waitstatus_to_exitcode(status))


def _say(pipe: int, **fields: Any) -> None:
    os.write(pipe, json.dumps(fields).encode() + b"\n")


def _fork(request: dict[str, Any], pipes: tuple[int, int]) -> int:
    server = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    for pipe in pipes:
        os.close(pipe)
    err = os.open(request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(err, 2)
    code = 1
    try:
        code = _run(request, server)
    finally:
        sys.stdout.flush()
        os._exit(code)
    return 0


def _run(request: dict[str, Any], server: int) -> int:
    from dataclasses import replace

    import torch

    from doctor.observe.plan import Plan
    from doctor.subjects import entry

    if request["threads"]:
        torch.set_num_threads(request["threads"])
    plan = replace(Plan.parse(Path(request["plan"]).read_text(encoding="utf-8")), parent=server)
    _seed_numpy(plan.seed_offset)
    try:
        entry.run(plan)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


def _seed_numpy(offset: int) -> None:
    """Every fork would draw the same numbers; an arm of another seed draws others."""
    if offset and "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(offset)
