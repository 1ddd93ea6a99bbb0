"""Missing values that reach the model."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.data_lines import DataLines
from doctor.evidence.input_moments import InputStatistics, Sentinel
from doctor.evidence.target_log import TargetLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.imputation import ImputeSentinels

from ._places import location


class MissingLimits(Limits):
    """Thresholds of DAT001."""

    sentinel_share: float = 0.01  # of a column's values that equal the far-off value exactly
    reach: float = 3.0  # distance of that value over the range of the others


@check("DAT001", "missing-values", Severity.ERROR, faq="training/data/missing")
def missing_values(
    statistics: InputStatistics | None, targets: TargetLog | None, lines: DataLines | None, limits: MissingLimits
) -> Iterator[Finding]:
    """NaN, infinities or placeholders such as -999 reach the model or the loss.

    ## What it measures
    Non-finite numbers in the input of a model whose output is not finite either, and in targets of a loss that averages
    over them. Placeholders: a value that at least `sentinel_share` of a column equals exactly, farther from the others
    than `reach` times their range; the trial replaces it by the column's median.
    ## Why it hurts
    A single NaN makes the loss, and after one step every parameter NaN. A placeholder pulls its column's scale with it.
    ## Example
    ```python
    x = torch.tensor(frame[columns].values).float()
    ```
    ## Use instead
    ```python
    filled = frame[columns].fillna(frame[columns].median())
    x = torch.tensor(filled.values).float()
    ```
    ## When it is right
    Models that handle NaN themselves have finite outputs and are silent; so are masked losses with reduction="none",
    zero-inflated columns and heavy tails, whose largest values differ.
    ## References
    Rubin, "Inference and missing data" (1976).
    """
    yield from _non_finite_inputs(statistics, lines)
    yield from _non_finite_targets(targets, lines)
    if statistics is not None:
        yield from _placeholders(statistics, lines, limits)


def _non_finite_inputs(statistics: InputStatistics | None, lines: DataLines | None) -> Iterator[Finding]:
    for bad in statistics.non_finite[:1] if statistics else ():
        if bad.step > 0 and bad.batches < 2 and bad.values == bad.of:
            continue  # a diverged model's own output, fed back
        columns = ", ".join(map(str, bad.columns[:6])) + (" ..." if len(bad.columns) > 6 else "")
        what = "NaN" if bad.nan else "infinite"
        yield Finding(
            message=f"{bad.values} of {bad.of} numbers of an input are {what} (column {columns} of {bad.width}), "
            f"and so is the model's output",
            location=location(lines.inputs() if lines else None, bad.source, column=f"column {columns}"),
            measured={"non_finite": Measure(value=bad.values, threshold=0), "batches": Measure(value=bad.batches)},
            remedy="fill or drop the missing values before the tensor is made (fillna with the training median)",
            demonstrated="the input holds the first numbers that are not finite",
        )


def _non_finite_targets(targets: TargetLog | None, lines: DataLines | None) -> Iterator[Finding]:
    for place in targets.places if targets else ():
        if place.non_finite and place.training and place.reduction != "none":
            yield Finding(
                message=f"{place.non_finite} of {place.elements} targets are NaN or infinite",
                location=location(lines.targets() if lines else None, place.source),
                measured={"non_finite": Measure(value=place.non_finite, threshold=0)},
                remedy="drop the samples without a target",
                demonstrated="a loss that averages over a NaN is NaN",
            )
            return


def _placeholders(statistics: InputStatistics, lines: DataLines | None, limits: MissingLimits) -> Iterator[Finding]:
    found = [s for s in statistics.sentinels if s.share >= limits.sentinel_share and _distance(s) > limits.reach]
    if not found:
        return
    first = max(found, key=lambda sentinel: sentinel.share)
    yield Finding(
        severity=Severity.WARNING,
        message=f"{first.share:.1%} of column {first.column} are exactly {first.value:.4g}, the others lie between "
        f"{first.low:.4g} and {first.high:.4g}" + (f"; so in {len(found)} columns" if len(found) > 1 else ""),
        location=location(lines.inputs() if lines else None, first.source, column=f"column {first.column}"),
        measured={
            "share": Measure(value=first.share, threshold=limits.sentinel_share),
            "distance": Measure(value=_distance(first), threshold=limits.reach),
        },
        remedy="treat this value as missing: fill it with the column's median (and add an indicator column)",
        treatment=ImputeSentinels(
            columns=tuple(s.column for s in found),
            values=tuple(s.value for s in found),
            medians=tuple(s.median for s in found),
            root=first.root,
        ),
    )


def _distance(sentinel: Sentinel) -> float:
    gap = sentinel.low - sentinel.value if sentinel.value < sentinel.low else sentinel.value - sentinel.high
    return gap / max(sentinel.high - sentinel.low, 1e-12)
