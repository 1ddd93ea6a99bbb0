"""Evaluation in training mode."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.evaluation_log import EvaluationLog
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import EvaluateInEvalMode


class EvalModeLimits(Limits):
    """Thresholds of EVL001."""

    min_forwards: int = 1


@check("EVL001", "missing-eval-mode", Severity.ERROR, faq="training/architecture/incorrect")
def missing_eval_mode(log: EvaluationLog, limits: EvalModeLimits) -> Iterator[Finding]:
    """The model is evaluated in training mode, with dropout and batch statistics at work.

    ## What it measures
    Forwards without gradients (or from lines that never lead to a backward) after training began, while dropout or
    batch normalisation layers were in training mode. The experiment repeats them in eval mode and compares the outputs.
    ## Why it hurts
    The metric is that of a randomly damaged model, depends on the other samples of the batch, and leaks the evaluation
    data into the running statistics.
    ## Example
    ```python
    with torch.no_grad():
        accuracy = (model(x_test).argmax(1) == y_test).float().mean()
    ```
    ## Use instead
    ```python
    model.eval()
    with torch.no_grad():
        accuracy = (model(x_test).argmax(1) == y_test).float().mean()
    model.train()
    ```
    ## When it is right
    Monte-Carlo dropout wants it (several forwards of one batch): silence it on its line. Generators that are sampled
    without gradients while the critic trains are left alone.
    ## References
    `torch.nn.Module.eval`; pytorch/pytorch issues on train-mode evaluation.
    """
    for place in log.places:
        if place.train_mode < limits.min_forwards or not place.mode_sensitive or not place.after_training:
            continue
        if place.during_training_window or place.source is None:
            continue
        if log.training_source is None and place.grad_enabled:
            continue  # no forward led to a backward: this may well be the training that does not work
        layers = ", ".join(place.mode_sensitive[:3]) + (" ..." if len(place.mode_sensitive) > 3 else "")
        yield Finding(
            message=f"{place.train_mode} of {place.forwards} evaluation forwards ran in training mode with {layers}",
            location=Location(path=place.source.path, line=place.source.line),
            measured={
                "train_mode_forwards": Measure(value=place.train_mode, threshold=limits.min_forwards),
                "mode_sensitive_layers": Measure(value=len(place.mode_sensitive)),
            },
            remedy="call model.eval() before evaluation, and model.train() before training goes on",
            treatment=EvaluateInEvalMode(root=place.root),
        )
