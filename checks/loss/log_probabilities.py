"""Losses of log-probabilities that are given something else."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.loss_arguments import LossArguments, LossPlace
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .places import at, called


class LogProbabilityLimits(Limits):
    """Thresholds of LOS003."""

    # Rows of a log_softmax have logsumexp 0 up to rounding; log(softmax + eps) and averages of ensembles stay near it.
    row_share: float = 0.9
    min_log_sum: float = 0.1
    min_rows: int = 4


@check(
    "LOS003",
    "nll-without-log-softmax",
    Severity.ERROR,
    faq=("training/loss/incorrect", "training/architecture/missing"),
    faults=("wrong-output-activation", "wrong-loss"),
)
def nll_without_log_softmax(arguments: LossArguments, limits: LogProbabilityLimits) -> Iterator[Finding]:
    """The negative log-likelihood is given raw scores or probabilities instead of log-probabilities.

    ## What it measures
    For every training call of `nll_loss`, the logsumexp over the classes of each row. Log-probabilities have 0. Fires
    when at least `row_share` of the rows are off by more than `min_log_sum` on average and are no distribution in logs.
    ## Why it hurts
    `nll_loss` only picks the target's entry and negates it. Of a raw score that has no lower bound: the target's score
    is raised for ever, nothing lowers the others. Of a probability it is -p, whose gradient vanishes where p is small.
    ## Example
    ```python
    scores = model(x)
    loss = F.nll_loss(scores, y)
    ```
    ## Use instead
    ```python
    scores = model(x)
    loss = F.cross_entropy(scores, y)
    ```
    ## When it is right
    `log_softmax`, `log(softmax(x))`, the log of an average of distributions, adaptive softmax: their rows sum to one.
    ## References
    `torch.nn.NLLLoss`: "The input given through a forward call is expected to contain log-probabilities of each class".
    """
    for place in arguments.training("nll_loss"):
        outside = place.rows - place.normalised
        if place.rows < limits.min_rows or len(place.input_shape) < 2 or place.input_shape[1] < 2:
            continue
        if outside < limits.row_share * place.rows or place.log_sum < limits.min_log_sum:
            continue
        yield _finding(place, outside, limits)
        return


def _finding(place: LossPlace, outside: int, limits: LogProbabilityLimits) -> Finding:
    probable = place.probabilities >= limits.row_share * place.rows
    what = "probabilities (rows that sum to 1)" if probable else "raw scores"
    hurts = "-p of the target" if probable else "minus the target's score, which has no lower bound"
    return Finding(
        message=f"nll_loss is given {what} of shape {'x'.join(map(str, place.input_shape))}: the rows' logsumexp is "
        f"{place.log_sum:.3g} on average, 0 for log-probabilities; the loss is {hurts}",
        location=at(place.chosen),
        related=called(place),
        measured={
            "logsumexp": Measure(value=place.log_sum, threshold=limits.min_log_sum),
            "rows_not_normalised": Measure(value=outside / place.rows, threshold=limits.row_share),
        },
        remedy="use cross_entropy on the raw scores"
        + (" (leave the softmax out), or log_softmax" if probable else ", or apply log_softmax before nll_loss"),
        demonstrated=f"{outside} of {place.rows} rows given to nll_loss are no log-probabilities",
    )
