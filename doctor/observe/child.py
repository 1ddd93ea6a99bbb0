"""A child process that cannot outlive us: started in its own session, killed with all its descendants."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_TAIL_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """How a child ended. `code` is negative for a signal; the tails hold its last 64 kB of output."""

    code: int
    timed_out: bool
    seconds: float
    stdout_tail: str
    stderr_tail: str


class Child:
    """A command in a session of its own. Its output goes to unnamed files, so that it never blocks on us; its input is
    empty, or (with `talk`) what it is told.
    """

    def __init__(self, command: list[str], *, cwd: Path, environment: dict[str, str], talk: bool = False) -> None:
        self._started = time.monotonic()
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )
        self._ended: Ended | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._ended is None and self._process.poll() is None

    def tell(self, text: str) -> None:
        """Write to its input; a child that has ended hears nothing."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(text.encode())
                self._process.stdin.flush()

    def wait(
        self,
        timeout_s: float,
        *,
        on_poll: Callable[[], None] | None = None,
        until: Callable[[], bool] | None = None,
        poll_s: float = 0.1,
    ) -> bool:
        """Wait until it has ended, or `until` holds; False when the time is up."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            if until is not None and until():
                return True
            if time.monotonic() > deadline:
                return False
            if on_poll is not None:
                on_poll()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(poll_s)
        return True

    def close(self, *, timed_out: bool = False) -> Ended:
        """Kill it and all its descendants as far as they live; how it ended."""
        if self._ended is None:
            process = self._process
            kill_group(process.pid, descendants(process.pid))
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            code = process.wait()
            with self._out as out, self._err as err:
                spent = time.monotonic() - self._started
                self._ended = Ended(code, timed_out, spent, _tail(out), _tail(err))
        return self._ended


def run_child(
    command: list[str],
    *,
    cwd: Path,
    environment: dict[str, str],
    timeout_s: float,
    on_poll: Callable[[], None] | None = None,
    poll_s: float = 0.1,
) -> Ended:
    """Run a command to its end or to the time limit; on any exception here, the child and its children die first."""
    child = Child(command, cwd=cwd, environment=environment)
    timed_out = True
    try:
        timed_out = not child.wait(timeout_s, on_poll=on_poll, poll_s=poll_s)
    finally:
        ended = child.close(timed_out=timed_out)
    return ended


def kill_group(leader: int, others: set[int]) -> None:
    """Kill a process group and further processes, as far as they still live."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    for process in others:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def descendants(ancestor: int) -> set[int]:
    """Processes below this one, also those that left its session (Linux only, else none)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
    found: set[int] = set()
    grown = True
    while grown:
        more = {process for process, parent in parents.items() if parent in found | {ancestor}} - found
        found |= more
        grown = bool(more)
    return found


def die_with_parent(parent: int) -> None:
    """Called by the child: it is killed when its parent ends, however that ends."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if sys.platform != "linux":
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _tail(file: IO[bytes]) -> str:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _TAIL_BYTES))
    return file.read().decode("utf-8", "replace")
