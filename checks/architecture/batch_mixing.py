"""Samples of a batch that leak into each other."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.metamorphic import Metamorphic, Operation
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .experiments import location, related


class BatchMixingLimits(Limits):
    """Thresholds of ARC008."""

    min_share: float = 0.5  # of the samples: routing with capacities moves a few, a mixed axis moves nearly all
    min_effect: float = 0.01  # spreads of the output; float noise is below 1e-5
    sure_share: float = 0.9


@check(
    "ARC008",
    "batch-mixing",
    Severity.ERROR,
    faq="training/architecture/incorrect",
    faults=("batch-mixing", "wrong-dim"),
)
def batch_mixing(experiments: Metamorphic, log: OptimizerLog | None, limits: BatchMixingLimits) -> Iterator[Finding]:
    """In evaluation mode the output of one sample depends on the other samples of its batch.

    ## What it measures
    After the run, one training batch is fed to the model in evaluation mode twice: as it was, and with every second sample
    replaced by a copy of the one before it. The outputs of the untouched samples must stay what they were; it fires when at
    least `min_share` of them move by `min_effect` of the outputs' spread (median). Two traces of the calls, compared
    operation by operation, name the line on which untouched samples first change.
    ## Why it hurts
    Predictions depend on who else is in the batch: training learns from neighbours that are not there at inference.
    ## Example
    ```python
    self.rnn = nn.LSTM(16, 32)
    out, _ = self.rnn(x)  # x is (batch, time, features)
    ```
    ## Use instead
    ```python
    self.rnn = nn.LSTM(16, 32, batch_first=True)
    out, _ = self.rnn(x)  # x is (batch, time, features)
    ```
    ## When it is right
    Batch norm mixes in training mode only. Nodes of one graph, in-batch similarity matrices, norms without running
    statistics, minibatch statistics of an adversarial critic and time-major sequences are left alone.
    ## References
    torch.nn.LSTM: `batch_first`; Karpathy's recipe, "use backprop to chart dependencies".
    """
    adversarial = log is not None and len(log.optimizers) > 1
    for call in experiments.calls:
        found = call.independence
        if found is None or found.connected or found.share < limits.min_share or found.effect < limits.min_effect:
            continue
        place, cause, remedy = _explained(found.cause)
        sure = found.how in ("loader", "targets", "pooled") and found.share >= limits.sure_share
        severity = Severity.ERROR if sure else Severity.WARNING
        if adversarial or (found.full_batch and found.how != "pooled"):
            severity = Severity.INFO
        yield Finding(
            message=f"in evaluation mode the outputs of {found.share:.0%} of the samples change, by {found.effect:.2g} of "
            f"their spread, when other samples of the batch are replaced{cause}",
            location=location(place or call.source, found.cause),
            severity=severity,
            measured={
                "changed_samples": Measure(value=found.share, threshold=limits.min_share),
                "effect": Measure(value=found.effect, threshold=limits.min_effect, unit="spreads"),
            },
            remedy=remedy,
            demonstrated="replacing other samples of the batch changes a sample's output",
            related=related((found.cause.source if found.cause else None, "untouched samples first change here"))
            if found.cause and found.cause.source != place
            else (),
        )
        return


def _explained(cause: Operation | None) -> tuple[Source | None, str, str]:
    """Where to edit, the cause in words, and the edit."""
    if cause is None:
        return None, "", "keep the batch axis apart: no view, mean, softmax or norm may run over axis 0"
    layer = cause.layer
    if layer is not None and layer.ordered and not layer.batch_first:
        kind = layer.kind
        edit = f"give {'its layers' if layer.transformer else kind} batch_first=True, or transpose the input"
        return (
            layer.source or cause.source,
            f": {kind} was made with batch_first=False and takes the batch for time",
            edit,
        )
    words = {
        "_softmax": ("softmax runs over the batch", "give softmax the axis of the classes or keys, dim=-1"),
        "_log_softmax": ("log_softmax runs over the batch", "give log_softmax the axis of the classes, dim=-1"),
        "view": ("a view mixes the batch axis with others", "permute before the view, or keep axis 0 as it is"),
        "_unsafe_view": ("a view mixes the batch axis with others", "permute before the view, or keep axis 0"),
        "mean": ("a mean runs over the batch", "take the mean over the axis that is meant, not over axis 0"),
        "sum": ("a sum runs over the batch", "sum over the axis that is meant, not over axis 0"),
    }
    text, edit = words.get(
        cause.name, (f"{cause.name.strip('_')} mixes the samples", "keep the batch axis apart in this operation")
    )
    return cause.source, f": {text}", edit
