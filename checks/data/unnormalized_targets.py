"""Regression targets on a scale that the model's output does not have."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.data_lines import DataLines
from doctor.evidence.target_log import TargetLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.base import Place
from doctor.trials.treatments.targets import StandardiseTargets

from ._places import location


class TargetScaleLimits(Limits):
    """Thresholds of DAT009."""

    scale: float = 10.0  # root mean square of the targets over that of the first prediction
    magnitude: float = 10.0  # root mean square of the targets
    relative_error: float = 0.5  # squared error in the last third over the targets' variance
    min_targets: int = 32


@check("DAT009", "unnormalized-targets", Severity.WARNING, faq="training/data/incorrect")
def unnormalized_targets(targets: TargetLog, lines: DataLines | None, limits: TargetScaleLimits) -> Iterator[Finding]:
    """The targets of a regression are far larger than what a fresh model predicts, and training does not get there.

    ## What it measures
    Root mean square of the targets against that of the first prediction (`scale`) and in itself (`magnitude`), and the
    squared error of the last third of the run over the variance of the targets. The trial standardises the targets; its
    loss is measured in the program's own units.
    ## Why it hurts
    The output layer must grow by orders of magnitude first; gradients are huge, and rates that bear them learn nothing.
    ## Example
    ```python
    loss = F.mse_loss(model(x), price)
    ```
    ## Use instead
    ```python
    loss = F.mse_loss(model(x), (price - price_mean) / price_std)
    ```
    ## When it is right
    Raw targets that the model fits all the same are silent: a last bias set to their mean, a scaled output, few units.
    ## References
    Bishop, "Neural networks for pattern recognition" (1995), section 8.2.
    """
    for place in targets.places:
        if not place.training or place.mean is None or place.std is None or place.first_output is None:
            continue
        if not place.function.startswith(("mse", "l1", "smooth_l1", "huber")) or place.elements < limits.min_targets:
            continue
        size = (place.mean**2 + place.std**2) ** 0.5
        first = (place.first_output[0] ** 2 + place.first_output[1] ** 2) ** 0.5
        far = place.relative_error is None or not place.relative_error < limits.relative_error
        scale = size / max(first, 1e-3)
        if size < limits.magnitude or scale < limits.scale or not far or place.std <= 0:
            continue
        error = "unknown" if place.relative_error is None else f"{place.relative_error:.3g}"
        where = place.source
        yield Finding(
            message=f"the targets have mean {place.mean:.4g} and deviation {place.std:.4g}, the first predictions "
            f"{place.first_output[0]:.3g} and {place.first_output[1]:.3g}; the squared error at the end is {error} of the "
            f"targets' variance",
            location=location(lines.targets() if lines else None, where),
            measured={
                "scale": Measure(value=scale, threshold=limits.scale),
                "relative_error": Measure(value=place.relative_error, threshold=limits.relative_error),
            },
            remedy="standardise the targets with the training set's mean and deviation, and scale predictions back",
            treatment=StandardiseTargets(
                mean=place.mean,
                std=place.std,
                place=Place(path=where.path, line=where.line) if where else Place(),
            ),
        )
        return
