"""Inputs from which everything that told the samples apart was lost."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.data_lines import DataLines
from doctor.evidence.input_moments import InputStatistics
from doctor.evidence.token_log import TokenLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from ._places import location


class ConstantInputLimits(Limits):
    """Thresholds of DAT010 on the inputs of a model."""

    min_samples: int = 64
    min_batches: int = 2  # one full batch of a fixed code is trained on purpose


@look("DAT010")
def constant_inputs(
    statistics: InputStatistics, tokens: TokenLog | None, lines: DataLines | None, limits: ConstantInputLimits
) -> Iterator[Finding]:
    """The only input of a model is the same for every sample."""
    reading = {record.root for record in tokens.embeddings} if tokens else set()
    for pair in statistics.inputs:
        seen = pair.training
        if (
            seen.samples < limits.min_samples
            or seen.batches < limits.min_batches
            or seen.others
            or pair.root in reading
        ):
            continue
        if seen.constant and not any(o.root == pair.root and not o.training.constant for o in statistics.inputs):
            yield Finding(
                severity=Severity.ERROR,
                message=f"every input of {seen.samples} training samples is the same: "
                + (f"all {len(seen.mean)} columns are constant" if len(seen.mean) > 1 else "one constant value"),
                location=location(lines.inputs() if lines else None, seen.source),
                measured={"varying_columns": Measure(value=0, threshold=1)},
                remedy="look where the samples lose their values: a wrong column, a scaling by 0, a mask",
                demonstrated="the smallest and the largest value of each column are equal",
            )
            return
