"""Batch norms whose running statistics do not fit."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.metamorphic import Metamorphic, NormLayer
from doctor.findings import Finding, Measure, Nature, Severity
from doctor.registry import Limits, check

from .experiments import location


class NormGapLimits(Limits):
    """Thresholds of ARC020."""

    min_gap: float = 0.5  # spreads of the output; healthy models whose statistics lag by some steps reach about 0.3
    min_between: float = 1.0  # standard deviations between the means of two calls of one layer
    min_ratio_between: float = 4.0  # or the factor between their variances
    min_shift: float = 3.0  # standard deviations of running from batch means, long after they should have settled
    min_ratio: float = 10.0  # or the factor between the variances
    min_values: int = 32  # values a channel: variances of fewer are noise
    max_left: float = 0.02  # weight of the initial statistics that the momentum has left


@check(
    "ARC020",
    "batchnorm-eval-gap",
    Severity.WARNING,
    faq="training/architecture/incorrect",
    faults=("batchnorm-misuse",),
    nature=Nature.CONDITION,
)
def batchnorm_eval_gap(experiments: Metamorphic, limits: NormGapLimits) -> Iterator[Finding]:
    """Evaluation mode gives other outputs than training mode, because running statistics do not fit the data.

    ## What it measures
    After the run, one training batch goes through the model in evaluation mode twice, normalised by running and by its own
    statistics. It fires when outputs differ by `min_gap` of their spread and either one layer is called several times in
    one forward with inputs `min_between` standard deviations (or `min_ratio_between` in variance) apart, or running
    statistics whose momentum has long settled are `min_shift` deviations or a factor `min_ratio` off.
    ## Why it hurts
    Training looks fine and evaluation is wrong: the running statistics are an average over inputs that never occur.
    ## Example
    ```python
    self.norm = nn.BatchNorm1d(64)
    x = F.relu(self.norm(self.fc1(x)))
    x = F.relu(self.norm(self.fc2(x)))
    ```
    ## Use instead
    ```python
    self.norm1, self.norm2 = nn.BatchNorm1d(64), nn.BatchNorm1d(64)
    x = F.relu(self.norm1(self.fc1(x)))
    x = F.relu(self.norm2(self.fc2(x)))
    ```
    ## When it is right
    Siamese towers call one norm on inputs of one distribution. Small momenta need thousands of steps, and are not judged;
    frozen norms neither.
    ## References
    Ioffe and Szegedy 2015; Wu and Johnson 2021, "Rethinking Batch in BatchNorm".
    """
    for call in experiments.calls:
        gap = call.train_eval_gap
        if gap is None or gap.gap < limits.min_gap:
            continue
        shared = [layer for layer in gap.layers if _shared(layer, limits)]
        off = shared or [layer for layer in gap.layers if _off(layer, limits)]
        if not off:
            continue
        layer = off[0]
        if shared:
            fact = (
                f"{layer.path} is called {layer.calls} times in one forward with inputs {layer.between:.2g} standard "
                f"deviations apart (variances by a factor {layer.ratio_between:.2g})"
            )
            remedy = "give every place a batch norm of its own"
        else:
            fact = (
                f"running statistics of {layer.path} are {layer.shift:.2g} standard deviations (variances by a factor "
                f"{layer.ratio:.2g}) off after {layer.tracked} batches"
            )
            remedy = "check momentum, batch composition and who else calls this layer; or use GroupNorm"
        yield Finding(
            message=f"{fact}: outputs of evaluation and training mode differ by {gap.gap:.2g} of their spread",
            location=location(layer.source).model_copy(update={"module": layer.path}),
            measured={
                "train_eval_gap": Measure(value=gap.gap, threshold=limits.min_gap, unit="spreads"),
                "calls": Measure(value=layer.calls, threshold=1),
                "shift": Measure(value=layer.shift, threshold=limits.min_shift),
                "variance_ratio": Measure(value=layer.ratio, threshold=limits.min_ratio),
            },
            remedy=remedy,
            demonstrated="the same batch gives other outputs with its own statistics than with the running ones",
        )
        return


def _shared(layer: NormLayer, limits: NormGapLimits) -> bool:
    apart = layer.between >= limits.min_between or layer.ratio_between >= limits.min_ratio_between
    return layer.calls > 1 and layer.values >= limits.min_values and apart


def _off(layer: NormLayer, limits: NormGapLimits) -> bool:
    if layer.momentum is None or layer.calls > 1 or layer.values < limits.min_values:
        return False
    settled = (1 - min(1.0, layer.momentum)) ** layer.tracked <= limits.max_left
    return settled and (layer.shift >= limits.min_shift or layer.ratio >= limits.min_ratio)
