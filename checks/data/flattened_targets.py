"""Targets that are flattened in another order than the outputs."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.axes import TARGETED, TensorAxes
from doctor.evidence.op_tape import OpTape
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look


class FlattenedLimits(Limits):
    """Thresholds of DAT012 on flattened targets."""

    least: int = 2  # length of each axis


@look("DAT012")
def flattened_in_another_order(tape: OpTape, axes: TensorAxes, limits: FlattenedLimits) -> Iterator[Finding]:
    """Outputs run sample by sample and targets step by step, or the other way round: most pairs are of two samples.

    Both axes are followed from the batch to the loss; lengths in another order say it.
    """
    first = tape.first
    for op in first.named(*TARGETED):
        if len(op.inputs) < 2 or not op.grad_enabled or op.source is None or not op.inputs[0].requires_grad:
            continue
        output, target = axes.of.get(op.inputs[0].id), axes.of.get(op.inputs[1].id)
        if not output or not target:
            continue
        one, other = ([axes.length[atom] for atom in found[0]] for found in (output, target))
        if len(one) < 2 or min(one) < limits.least or one == other or sorted(one) != sorted(other):
            continue
        yield Finding(
            severity=Severity.ERROR,
            message=f"the loss compares outputs flattened as {' x '.join(map(str, one))} with targets flattened as "
            f"{' x '.join(map(str, other))}: most pairs belong to different samples",
            location=Location(path=op.source.path, line=op.source.line),
            measured={"pairs": Measure(value=op.inputs[0].shape[0])},
            remedy="flatten both in the same order, without a transposition between them",
            demonstrated="the axes of both, followed from the batch to the loss",
            faults=("misaligned-labels", "scrambled-reshape"),
        )
        return
