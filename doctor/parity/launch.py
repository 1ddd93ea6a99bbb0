"""The child that builds the reference model and runs the artifact, seen from here. Imports neither torch nor a runtime.

One process does both, since importing torch is most of what either costs. The reference is built with the user's whole
environment; before the artifact is opened, what looks like a secret is taken out of it, devices are hidden, and the
usual libraries are told to stay off the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError
from doctor.observe.child import Child
from doctor.subjects.reference_child import split

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE", re.IGNORECASE)
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
_COMMAND = [sys.executable, "-P", "-c", "from doctor.parity.child import main; main()"]
_POLL_S = 0.02


class ModelProcess:
    """A child process, started at once; it builds the reference (if there is one) while we do something else.

    `bare` keeps the environment's secrets and devices from the reference, too.
    """

    def __init__(self, reference: str | None, timeout_s: float, memory_mb: int, *, bare: bool = False) -> None:
        path, _ = split(reference or "")
        if path.endswith(".py") and not Path(path).is_file():
            raise DoctorError(f"no file {path} for the reference model", "give --reference module.py:factory")
        self.reference, self.timeout_s = reference, timeout_s
        self._scratch = tempfile.TemporaryDirectory(prefix="doctor-gate-")
        self._folder = Path(self._scratch.name)
        self._facts: dict[str, Any] | None = None
        hidden = {name: value for name, value in os.environ.items() if _SECRET.search(name)}
        plain = {name: value for name, value in os.environ.items() if name not in hidden}
        own = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "WANDB_MODE": "disabled"}
        self._child = Child(_COMMAND, cwd=Path.cwd(), environment=plain | own | (_QUIET if bare else {}), talk=True)
        self._started = time.monotonic()
        self._finalizer = weakref.finalize(self, _close, self._child, self._scratch)
        self._tell(
            {
                "reference": reference,
                "reference_path": path,
                "folder": str(self._folder),
                "cwd": str(Path.cwd()),
                "memory_mb": memory_mb,
                "timeout_s": timeout_s,
                "parent": os.getpid(),
                "secrets": {} if bare else hidden,
                "quiet": _QUIET,
            }
        )

    def close(self) -> None:
        """End the child, and remove its files."""
        self._finalizer()

    def facts(self) -> dict[str, Any]:
        """What the reference is, by `reference_child.describe`; waits for it. Raises DoctorError when it cannot be
        built.
        """
        if self._facts is None:
            self._facts = self._awaited()
        if "error" in self._facts:
            raise DoctorError(f"the reference model {self.reference} could not be built: {self._facts['error']}")
        return self._facts

    @property
    def values(self) -> Path | None:
        """The file of the reference's values, once there are facts; None where there is none."""
        path = self._folder / "values.bin"
        return path if path.exists() else None

    @property
    def clean(self) -> bool:
        """Whether an artifact may be run in it: it lives, and its reference has woken no device."""
        return self._child.runs and bool(self._facts and self._facts.get("clean"))

    def run(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a job; its results in order, the last of them `stopped` where it did not end by itself. Only once."""
        results = self._folder / "results.jsonl"
        self._tell(job)
        timed_out = not self._child.wait(self.timeout_s, poll_s=_POLL_S)
        ended = self._child.close()
        found = list(_lines(results))
        if timed_out:
            found.append({"section": "stopped", "reason": f"it did not end within {self.timeout_s:g} s"})
        elif not found or found[-1]["section"] not in ("done", "stopped"):
            how = f"signal {-ended.code}" if ended.code < 0 else f"status {ended.code}"
            tail = " ".join(ended.stderr_tail.split())[-200:]
            found.append({"section": "stopped", "reason": f"the process ended by {how}; {tail}".rstrip("; ")})
        return found

    def _awaited(self) -> dict[str, Any]:
        answer = self._folder / "facts.json"
        left = self._started + self.timeout_s - time.monotonic()
        ended = self._child.wait(max(left, 0.0), until=answer.exists, poll_s=_POLL_S)
        if not answer.exists():
            if not ended:
                self._child.close()
                raise DoctorError(f"the reference model was not built within {self.timeout_s:g} s", "see --timeout")
            tail = self._child.close()
            last = (tail.stderr_tail.strip().splitlines() or [_how(tail.code)])[-1]
            raise DoctorError(f"the reference model {self.reference} could not be built: {last}")
        facts: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return facts

    def _tell(self, message: dict[str, Any]) -> None:
        self._child.tell(json.dumps(message) + "\n")


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _close(child: Child, scratch: tempfile.TemporaryDirectory[str]) -> None:
    child.close()
    scratch.cleanup()


def _lines(results: Path) -> Any:
    with contextlib.suppress(FileNotFoundError), results.open(encoding="utf-8") as stream:
        for line in stream:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)
