"""The child process: runs one job under limits, and writes its results line by line.

Started as `python -P -c "from doctor.parity.child import main; main()" JOB.json`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the job whose file is the only argument."""
    from doctor.observe.child import die_with_parent
    from doctor.observe.sandbox import Sandbox

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    die_with_parent(job["parent"])
    _limit(job["memory_mb"], job["timeout_s"])
    sys.dont_write_bytecode = True
    sys.path.insert(0, job["cwd"])
    Sandbox(job["scratch"], (job["cwd"],)).install()
    import warnings

    warnings.filterwarnings("ignore")
    with Path(job["results"]).open("a", encoding="utf-8") as stream:

        def emit(section: str, **data: Any) -> None:
            stream.write(json.dumps({"section": section, **_plain(data)}) + "\n")
            stream.flush()

        try:
            from doctor.parity.session import run

            run(job, emit)
        except MemoryError:
            emit("stopped", reason=f"more than {job['memory_mb']} MB of memory were needed")
        except ImportError as failure:
            emit("stopped", reason=f"{failure.name} is not installed (pip install 'pytorch-doctor[gate]')")
        except Exception as failure:
            import traceback

            at = traceback.extract_tb(failure.__traceback__)[-1]
            text = f"{type(failure).__name__}: {str(failure)[:300]}, {Path(at.filename).name}:{at.lineno}"
            emit("stopped", reason=text, crashed=True)
        else:
            emit("done")
    os._exit(0)  # libraries' exit handlers are not waited for


def _limit(memory_mb: int, seconds: float) -> None:
    """Bound memory, processor time and core dumps, as far as the platform does."""
    try:
        import resource
    except ImportError:  # no such limits on Windows: the time limit of the parent remains
        return
    limits = [
        (resource.RLIMIT_DATA, memory_mb << 20),  # and not the address space: PyTorch maps more than it uses
        (resource.RLIMIT_CPU, math.ceil(seconds) * 4),
        (resource.RLIMIT_CORE, 0),
    ]
    for which, value in limits:
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(which)
            top = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (top, hard))


def _plain(value: Any) -> Any:
    """JSON has no infinity: it becomes a large number, and NaN nothing."""
    if isinstance(value, float):
        return None if math.isnan(value) else max(min(value, 1e300), -1e300)
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
