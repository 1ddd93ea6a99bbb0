"""Generators that cannot make what their critic is shown as real."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.critic_log import Critic, CriticLog
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Severity
from doctor.registry import Limits, look

from .output_activation import bounds_of, last_function, unreachable_output


class GeneratedRangeLimits(Limits):
    """Thresholds of ARC006 on generators."""

    out_of_reach: float = 0.2  # of the real samples' range that no made sample can take


@look("ARC006")
def generated_out_of_reach(
    critics: CriticLog, tape: OpTape, tree: ModuleTree | None, limits: GeneratedRangeLimits
) -> Iterator[Finding]:
    """The last function of a generator is bounded, and real samples lie outside: the critic needs no more to tell them."""
    for critic in critics.critics:
        made = next((op for one in tape.tapes if (op := _maker(one, critic)) is not None), None)
        bounds = bounds_of(made) if made is not None else None
        if made is None or bounds is None or critic.real is None or critic.real[1] <= critic.real[0]:
            continue
        low, high = critic.real
        outside = max(bounds[0] - low, high - bounds[1]) / (high - low)
        if outside < limits.out_of_reach:
            continue
        name = made.name.lstrip("_")
        yield unreachable_output(
            made,
            f"the generator's {name} gives values in [{bounds[0]:g}, {bounds[1]:g}], the real samples lie in [{low:.4g}, {high:.4g}]",
            f"{outside:.0%} of their range cannot be made",
            Severity.ERROR,
            tree,
        )
        return


def _maker(tape: Tape, critic: Critic) -> Op | None:
    """The last function of the generator, on a tape where the critic reads its output."""
    for op in tape.forward:
        if op.root != critic.root or not op.module.startswith(critic.path):
            continue
        for note in op.inputs:
            found = last_function(tape, note)
            if found is not None and found.root == critic.generator:
                return found
    return None
