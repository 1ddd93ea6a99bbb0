"""Running a program under a recorder, and naming how it ended."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any

import torch

from doctor.observe.patches import Patches
from doctor.observe.plan import Plan
from doctor.observe.recorder import Recorder, StopObservation
from doctor.observe.stream import Stream


def observe(plan: Plan, stream: Stream, program: Callable[[], None]) -> None:
    """Run the program under a new recorder, with the plan's seed and treatments; write its end."""
    recorder = Recorder(plan, stream)
    seeds = Patches()
    _offset_seeds(seeds, plan.seed_offset)
    recorder.install()
    applied: list[Any] = []
    if plan.treatments:
        from doctor.trials.interventions import apply

        applied = [apply(treatment, recorder) for treatment in plan.treatments]
    outcome: dict[str, Any] = {"outcome": "finished"}
    owner = os.getpid()
    try:
        program()
    except StopObservation:
        outcome = {"outcome": "budget"}
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else (0 if leaving.code is None else 1)
        outcome = {"outcome": "exited" if code else "finished", "exit_code": code}
        if isinstance(leaving.code, str):
            outcome["message"] = leaving.code[:500]
    except KeyboardInterrupt:
        outcome = {"outcome": "killed"}
    except BaseException as failure:
        outcome = {"outcome": "crashed", "crash": recorder.crash(failure)}
    if os.getpid() != owner:  # a process that the script forked: its evidence is not ours
        os._exit(0)
    notes = [note for intervention in applied for note in intervention.notes()]
    for intervention in reversed(applied):
        intervention.remove()
    seeds.undo()
    if recorder.budget_reached:
        # After the budget an epoch was cut short: what the program makes of that is no fault of its own.
        outcome = {"outcome": "budget"}
    recorder.finish(**outcome, torch_imported=True, treatments=notes, libraries=_libraries())


def _offset_seeds(patches: Patches, offset: int) -> None:
    if not offset:
        return
    torch.manual_seed(torch.initial_seed() + offset)
    random.seed(offset)

    def shifted(original: Any, seed: Any, *args: Any, **kwargs: Any) -> Any:
        return original(int(seed) + offset, *args, **kwargs)

    patches.wrap(torch, "manual_seed", shifted)


def _libraries() -> list[str]:
    """Heavy libraries that the program imported: a later run may import them beforehand."""
    heavy = ("transformers", "lightning", "pytorch_lightning", "sklearn", "pandas", "accelerate", "numpy", "scipy")
    return [name for name in heavy if name in sys.modules]
