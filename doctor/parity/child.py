"""The child process: builds the reference model, then runs one artifact beside it, both under limits.

Started as `python -P -c "from doctor.parity.child import main; main()"`. Its plan is the first line of its input; the
job is the second, and comes when the artifact was judged safe. Without a job it ends when its input does.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from pathlib import Path
from typing import IO, Any


def main() -> None:
    """Follow the plan, then do the job."""
    from doctor.observe.child import die_with_parent
    from doctor.observe.sandbox import Sandbox

    control = _control()
    plan = json.loads(control.readline())
    die_with_parent(plan["parent"])
    _limit("RLIMIT_DATA", plan["memory_mb"] << 20, hard=True)  # not the address space: PyTorch maps more than it uses
    _limit("RLIMIT_CORE", 0, hard=True)
    sys.dont_write_bytecode = True
    sys.path.insert(0, plan["cwd"])
    folders = [plan["cwd"]]
    if (where := plan["reference_path"]).endswith(".py"):
        folders.append(str(Path(where).resolve().parent))
        sys.path.insert(0, folders[-1])
    sys.argv = [where]
    folder = Path(plan["folder"])
    Sandbox(str(folder / "scratch"), tuple(folders)).install()
    reference, failure = _reference(plan, folder) if plan["reference"] else (None, None)
    for line in control:
        _run(json.loads(line), plan, reference, failure)
    os._exit(0)  # libraries' exit handlers are not waited for


def _control() -> IO[str]:
    """Our input, out of the reach of the user's code, which has an empty one."""
    control = os.fdopen(os.dup(0), encoding="utf-8")
    with open(os.devnull, "rb") as empty:
        os.dup2(empty.fileno(), 0)
    return control


def _reference(plan: dict[str, Any], folder: Path) -> tuple[tuple[Any, Any, bool] | None, str | None]:
    """The reference's module, its model, and whether its weights are settled; or why there is none."""
    from doctor.subjects import reference_child

    secrets = plan["secrets"]
    os.environ.update(secrets)
    facts: dict[str, Any]
    found, failure = None, None
    try:
        facts, module, model = reference_child.build_twice(plan["reference"], folder)
        found = (module, model, facts["settled"])
        facts["clean"] = not _on_accelerator()
    except BaseException as error:  # SystemExit of the user's code, too
        failure = f"{type(error).__name__}: {str(error)[:500]}"
        facts = {"error": failure}
    for name in secrets:
        os.environ.pop(name, None)
    part = folder / "facts.part"
    part.write_text(json.dumps(facts), encoding="utf-8")
    part.rename(folder / "facts.json")
    return found, failure


def _on_accelerator() -> bool:
    """Whether the reference's code has woken a device up, which the artifact must not find."""
    import torch

    return bool(torch.cuda.is_initialized())


def _run(job: dict[str, Any], plan: dict[str, Any], built: tuple[Any, Any, bool] | None, failure: str | None) -> None:
    """Run the artifact; results go to a file, line by line."""
    os.environ.update(plan["quiet"])
    _limit("RLIMIT_CPU", math.ceil(_spent() + 4 * plan["timeout_s"]))
    import warnings

    warnings.filterwarnings("ignore")
    with (Path(plan["folder"]) / "results.jsonl").open("a", encoding="utf-8") as stream:

        def emit(section: str, **data: Any) -> None:
            stream.write(json.dumps({"section": section, **_plain(data)}) + "\n")
            stream.flush()

        try:
            from doctor.parity.reference import Reference
            from doctor.parity.session import run

            if failure:
                emit("reference", error=f"{plan['reference']} failed ({failure})")
            run(job, emit, Reference(built[0], built[1], settled=built[2]) if built else None)
        except MemoryError:
            emit("stopped", reason=f"more than {plan['memory_mb']} MB of memory were needed")
        except ImportError as lacking:
            emit("stopped", reason=f"{lacking.name} is not installed (pip install 'pytorch-doctor[gate]')")
        except Exception as crash:
            import traceback

            at = traceback.extract_tb(crash.__traceback__)[-1]
            text = f"{type(crash).__name__}: {str(crash)[:300]}, {Path(at.filename).name}:{at.lineno}"
            emit("stopped", reason=text, crashed=True)
        else:
            emit("done")
    os._exit(0)


def _spent() -> float:
    used = os.times()
    return used.user + used.system


def _limit(which: str, value: int, *, hard: bool = False) -> None:
    """Bound a resource, as far as the platform does."""
    try:
        import resource
    except ImportError:  # no such limits on Windows: the time limit of the parent remains
        return
    with contextlib.suppress(ValueError, OSError, AttributeError):
        number = getattr(resource, which)
        _, highest = resource.getrlimit(number)
        top = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(number, (top, top if hard else highest))


def _plain(value: Any) -> Any:
    """JSON has no infinity: it becomes a large number, and NaN nothing."""
    if isinstance(value, float):
        return None if math.isnan(value) else max(min(value, 1e300), -1e300)
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
