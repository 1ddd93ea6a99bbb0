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


def run_child(
    command: list[str],
    *,
    cwd: Path,
    environment: dict[str, str],
    timeout_s: float,
    on_poll: Callable[[], None] | None = None,
    poll_s: float = 0.1,
) -> Ended:
    """Run a command to its end or to the time limit; on any exception here, the child and its children die first.

    Its stdin is empty, its output goes to unnamed files, so that it never blocks on us.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        timed_out = False
        seen: set[int] = set()
        try:
            while child.poll() is None:
                if time.monotonic() - started > timeout_s:
                    timed_out = True
                    break
                if on_poll is not None:
                    on_poll()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(poll_s)
        finally:
            seen |= descendants(child.pid)
            kill_group(child.pid, seen)
            child.wait()
        return Ended(child.returncode, timed_out, time.monotonic() - started, _tail(out), _tail(err))


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
