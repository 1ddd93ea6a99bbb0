"""The observed process: runs the user's program as `python train.py` would, under the recorder.

Started as `python -P -c "from doctor.subjects.entry import main; main()" PLAN.json`, so that neither the working
folder nor this package's folders stand on `sys.path`.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the plan whose file is the only argument."""
    from doctor.observe.plan import Plan

    run(Plan.parse(Path(sys.argv[1]).read_text(encoding="utf-8")))
    # All evidence is written: to take the interpreter and its libraries apart would cost up to a second.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


def run(plan: Any) -> None:
    """Run one plan to its end; never returns a traceback of ours to the user's stderr."""
    from doctor.observe.child import die_with_parent
    from doctor.observe.sandbox import Sandbox, quiet_trackers
    from doctor.observe.stream import FileStream

    if plan.parent:
        die_with_parent(plan.parent)
    sys.dont_write_bytecode = True
    quiet_trackers(os.environ, plan.scratch)
    stream = FileStream(plan.events)
    script, _, case = plan.target.partition(":") if _is_case(plan.target) else (plan.target, "", "")
    failure = _syntax_failure(script)
    if failure is not None:
        stream.emit("start", target=plan.target, budget=plan.steps, torch=None)
        stream.emit("end", outcome="crashed", torch_imported=False, crash=failure)
        stream.close()
        return
    # torch is imported only if the program will: one without torch is told so, and costs nothing.
    sys.argv = [script, *plan.arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    if not case and not _mentions_torch(script):
        _run_without_torch(script, stream, plan)
        return
    from doctor.observe.observed import observe

    sandbox = Sandbox(plan.scratch, (str(Path(script).resolve().parent),)) if plan.sandbox else None
    if sandbox is not None:
        sandbox.install()
    observe(plan, stream, lambda: _program(script, case, plan))


def _program(script: str, case: str, plan: Any) -> None:
    if case:
        from doctor.subjects.case import train_declared

        train_declared(script, case, plan.steps)
    else:
        runpy.run_path(script, run_name="__main__")


def _is_case(target: str) -> bool:
    head, colon, name = target.rpartition(":")
    return bool(colon) and head.endswith(".py") and name.isidentifier()


def _syntax_failure(script: str) -> dict[str, Any] | None:
    try:
        compile(Path(script).read_bytes(), script, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as failure:
        line = getattr(failure, "lineno", None) or 1
        return {
            "type": type(failure).__name__,
            "message": getattr(failure, "msg", None) or str(failure),
            "frames": [[script, line, "<module>"]],
        }
    return None


def _mentions_torch(script: str) -> bool:
    """Whether the script, or a module beside it, may import torch."""
    folder = Path(script).resolve().parent
    words = (b"torch", b"lightning", b"transformers", b"accelerate", b"timm", b"fastai")
    if any(word in Path(script).read_bytes() for word in words):
        return True
    # The import may be in a helper beside the script.
    return any(
        any(word in path.read_bytes() for word in words) for path in list(folder.glob("*.py"))[:200] if path.is_file()
    )


def _run_without_torch(script: str, stream: Any, plan: Any) -> None:
    stream.emit("start", target=plan.target, budget=plan.steps, torch=None)
    outcome: dict[str, Any] = {"outcome": "finished"}
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as leaving:
        outcome = {"outcome": "exited", "exit_code": _code(leaving)}
    except BaseException as failure:
        from doctor.observe.frames import UserFrames

        lines = UserFrames().traceback(failure.__traceback__)
        crash = {"type": type(failure).__name__, "message": str(failure)[:2000], "frames": lines[-12:]}
        outcome = {"outcome": "crashed", "crash": crash}
    stream.emit("end", torch_imported="torch" in sys.modules, **outcome)
    stream.close()


def _code(leaving: SystemExit) -> int:
    return leaving.code if isinstance(leaving.code, int) else (0 if leaving.code is None else 1)
