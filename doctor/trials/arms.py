"""Arms: runs of the program with some treatments at some seed, shared by all trials of a diagnosis."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from doctor.evidence.recording import Recording
from doctor.subjects.program import Program, Run
from doctor.trials.treatments import Treatment

Treatments = tuple[Treatment, ...]

_SEED_STRIDE = 1009
_ARM_SECONDS = 10.0  # what an arm may take at the pace of the observed run
_LEAST_STEPS = 24


@dataclass(frozen=True)
class Arm:
    """One run: the loss by step, whether time ended it before its last step (a crash is no such end), and what the
    interventions noted.
    """

    curve: tuple[float, ...]
    cut: bool = False
    recording: Recording | None = field(default=None, compare=False)
    notes: tuple[dict[str, Any], ...] = field(default=(), compare=False)

    @staticmethod
    def of(recording: Recording, steps: int, keep: bool = False) -> Arm:
        """The arm that a recording shows."""
        curve = losses(recording)[:steps]
        cut = recording.end.get("outcome") == "budget" and len(curve) < steps
        notes = tuple(recording.end.get("treatments", ()))
        return Arm(curve, cut, recording if keep else None, notes)


def aligned(control: Arm, treated: Arm) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both curves, of one length where it was only time that ended one of them."""
    if not (control.cut or treated.cut):
        return control.curve, treated.curve
    count = min(len(control.curve), len(treated.curve))
    return control.curve[:count], treated.curve[:count]


class Arms:
    """Runs each arm once, several at a time where the program allows it."""

    def __init__(self, program: Program, recording: Recording, steps: int, jobs: int) -> None:
        self._program = program
        self._jobs = jobs if program.parallel else 1
        cores = os.cpu_count() or 1
        self._threads = max(1, cores // self._jobs) if self._jobs > 1 else None
        slower = cores / self._threads if self._threads else 1.0
        self.steps = _affordable(recording, steps, slower)
        self._known: dict[tuple[Treatments, int], Arm] = {((), 0): Arm.of(recording, self.steps, keep=True)}
        self.count = 0

    def get(self, wanted: Sequence[tuple[Treatments, int]], observed: Iterable[Treatments] = ()) -> list[Arm]:
        """The arms of these treatments and seeds; those `observed` keep their recording at the first seed."""
        keep = {(treatments, 0) for treatments in observed}
        missing = [
            key
            for key in dict.fromkeys(wanted)
            if key not in self._known or (key in keep and self._known[key].recording is None)
        ]
        with ThreadPoolExecutor(self._jobs) as pool:
            arms = list(pool.map(lambda key: self._run(key[0], key[1], key in keep), missing))
        self.count += len(missing)
        self._known.update(zip(missing, arms, strict=True))
        return [self._known[key] for key in wanted]

    def _run(self, treatments: Treatments, seed: int, keep: bool) -> Arm:
        run = Run(
            self.steps,
            treatments=treatments,
            seed_offset=seed * _SEED_STRIDE,
            light=not keep,
            soft_seconds=2 * _ARM_SECONDS,
            threads=self._threads,
        )
        return Arm.of(self._program.run(run), self.steps, keep)


def _affordable(recording: Recording, steps: int, slower: float) -> int:
    """As many steps as an arm can make in its time, at the pace of the observed run."""
    times = [event["at"] for event in recording.of("step") if "at" in event]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    if not gaps:
        return steps
    pace = max(median(gaps) * slower, 1e-6)
    return min(steps, max(_LEAST_STEPS, int(_ARM_SECONDS / pace)))


def losses(recording: Recording) -> tuple[float, ...]:
    """The loss by optimizer step of the first optimizer; by backward where nothing is stepped. Missing ones are NaN."""
    steps = recording.of("step")
    if steps:
        first = steps[0]["optimizer"]
        known = [event["loss"] for event in steps if event["optimizer"] == first]
        if any(loss is not None for loss in known):
            return tuple(math.nan if loss is None else float(loss) for loss in known)
    return tuple(math.nan if e["loss"] is None else float(e["loss"]) for e in recording.of("backward"))
