"""Inputs whose scale the first layer cannot use."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.batch_log import BatchLog, InputStats
from doctor.evidence.data_lines import DataLines
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import StandardiseInputs


class InputLimits(Limits):
    """Thresholds of DAT008."""

    magnitude: float = 20.0  # root mean square of the largest feature
    spread: float = 100.0  # largest over smallest deviation of the features that vary
    offset: float = 10.0  # largest |mean| / deviation, of features that are large as well
    min_samples: int = 16


@check(
    "DAT008", "unnormalized-inputs", Severity.WARNING, faq="training/data/incorrect",
    faults=("unnormalized-inputs", "wrong-normalization-stats"),
)  # fmt: skip
def unnormalized_inputs(log: BatchLog, lines: DataLines | None, limits: InputLimits) -> Iterator[Finding]:
    """The model is fed raw features whose scales differ by orders of magnitude or lie far from 1.

    ## What it measures
    Mean and deviation of every feature (channel) of the training batches that enter a linear or convolutional layer.
    Suspicious are a feature of root mean square above `magnitude`, deviations that differ by more than `spread` with
    the largest above 3, and offsets above `offset` deviations. The trial standardises the inputs.
    ## Why it hurts
    Large features saturate the first layer and dominate its gradient; no single learning rate fits all of them.
    ## Example
    ```python
    x = torch.tensor(frame[["age", "income"]].values).float()
    ```
    ## Use instead
    ```python
    x = torch.tensor(frame[["age", "income"]].values).float()
    x = (x - x[train].mean(0)) / x[train].std(0)
    ```
    ## When it is right
    Inputs that meet a normalisation layer first are silent, and so are images in 0 to 1, one-hot and sparse columns.
    ## References
    LeCun et al., "Efficient BackProp" (1998), section 4.3. Alarming outside [-1, 1], as UMLAUT does, hits 35 of 35
    healthy CIFAR programs.
    """
    for stats in log.inputs:
        if stats.normalised_first or stats.samples < limits.min_samples:
            continue
        reason, value, threshold = _suspicion(stats, limits)
        if not reason:
            continue
        place = (lines.inputs() if lines else None) or stats.source
        yield Finding(
            message=f"{reason} (inputs of shape {'x'.join(map(str, stats.shape))})",
            location=Location(
                path=place.path if place else None,
                line=place.line if place else None,
                module=stats.first_layer or None,
            ),
            measured={
                "scale": Measure(value=value, threshold=threshold),
                "minimum": Measure(value=stats.minimum),
                "maximum": Measure(value=stats.maximum),
            },
            remedy="standardise each feature with the training set's mean and deviation (images: divide by 255)",
            treatment=StandardiseInputs(
                mean=stats.mean, std=tuple(std or 1.0 for std in stats.std), axis=stats.axis, root=stats.root
            ),
        )


def _suspicion(stats: InputStats, limits: InputLimits) -> tuple[str, float, float]:
    varying = [(mean, std) for mean, std in zip(stats.mean, stats.std, strict=True) if std > 0]
    if not varying:
        return "", 0.0, 0.0
    largest = max((mean * mean + std * std) ** 0.5 for mean, std in varying)
    deviations = [std for _, std in varying]
    spread = max(deviations) / min(deviations)
    offset = (
        max(abs(mean) / std for mean, std in varying if abs(mean) > 2) if any(abs(m) > 2 for m, _ in varying) else 0
    )
    if largest > limits.magnitude:
        return f"the largest feature has a root mean square of {largest:.4g}", largest, limits.magnitude
    if len(varying) > 1 and spread > limits.spread and max(deviations) > 3:
        return f"the deviations of the features differ by a factor of {spread:.4g}", spread, limits.spread
    if offset > limits.offset:
        return f"a feature lies {offset:.4g} deviations from 0", offset, limits.offset
    return "", 0.0, 0.0
