"""What an observed process is told to do: the only input of `doctor.subjects.entry`, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

DEFAULT_SOFT_SECONDS = 25.0


@dataclass(frozen=True)
class Plan:
    """One run of a program.

    `target` is a script, or `module.py:case` for a declared case. `steps` is the budget of optimizer steps and
    `soft_seconds` the time after which the run stops at the next step (never before `least_steps`).
    `tape_steps` are taped; `hunt_step` is taped with the minimum and maximum of every tensor, forward and
    backward, to find where non-finite numbers begin. `seed_offset` is added to every seed of the program.
    `treatments` are applied (`Treatment.plan()`). `light` records the vitals only.
    """

    target: str
    events: str
    scratch: str
    arguments: tuple[str, ...] = ()
    steps: int = 80
    soft_seconds: float = DEFAULT_SOFT_SECONDS
    least_steps: int = 24
    tape_steps: tuple[int, ...] = (0, 1)
    activation_steps: tuple[int, ...] = ()
    hunt_step: int | None = None
    seed_offset: int = 0
    treatments: tuple[dict[str, Any], ...] = ()
    light: bool = False
    sandbox: bool = True
    parent: int = 0
    preload: tuple[str, ...] = field(default_factory=tuple)

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Plan:
        """From JSON."""
        raw = json.loads(text)
        for name in ("arguments", "tape_steps", "activation_steps", "treatments", "preload"):
            raw[name] = tuple(raw[name])
        return Plan(**raw)


def activation_steps(steps: int) -> tuple[int, ...]:
    """Steps at which activations and gradients are sampled: early, and spread over the budget."""
    return tuple(sorted({0, 1, 2, 4, 7, steps // 4, steps // 2, (3 * steps) // 4, max(0, steps - 2)}))
