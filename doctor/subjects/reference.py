"""The reference model of an artifact: built by the user's own code in a child process, described, and thrown away."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError
from doctor.observe.child import run_child

FACTORIES = ("build", "build_model", "make_model", "create_model", "get_model", "model", "Model", "Net")


@dataclass(frozen=True)
class Built:
    """What the child wrote: `facts` about the model, and the file of its values (None when they are too large)."""

    facts: dict[str, Any]
    values: Path | None


@contextmanager
def built(spec: str, timeout_s: float, memory_mb: int) -> Iterator[Built]:
    """Build the model of `module.py:factory` or `package.module:factory`; raises DoctorError when it cannot be."""
    path, _, factory = spec.rpartition(":") if ":" in spec and not spec.endswith(".py") else (spec, "", "")
    if path.endswith(".py") and not Path(path).is_file():
        raise DoctorError(f"no file {path} for the reference model", "give --reference module.py:factory")
    with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        plan = {
            "path": path,
            "factory": factory,
            "scratch": scratch,
            "memory_mb": memory_mb,
            "parent": os.getpid(),
        }
        ended = run_child(
            [sys.executable, "-P", "-c", "from doctor.subjects.reference_child import main; main()", json.dumps(plan)],
            cwd=Path.cwd(),
            environment={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "WANDB_MODE": "disabled"},
            timeout_s=timeout_s,
        )
        answer = Path(scratch) / "facts.json"
        if ended.timed_out:
            raise DoctorError(f"the reference model was not built within {timeout_s:.0f} s", "see --timeout")
        if not answer.exists():
            last = (ended.stderr_tail.strip().splitlines() or [f"exit status {ended.code}"])[-1]
            raise DoctorError(f"the reference model {spec} could not be built: {last}")
        facts = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in facts:
            raise DoctorError(f"the reference model {spec} could not be built: {facts['error']}")
        values = Path(scratch) / "values.bin"
        yield Built(facts, values if values.exists() else None)
