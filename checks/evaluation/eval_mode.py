"""Evaluation in training mode."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.evaluation_log import EvaluationLog, EvaluationPlace
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import EvaluateInEvalMode


class EvalModeLimits(Limits):
    """Thresholds of EVL001."""

    min_forwards: int = 1
    again: float = 0.6  # of the forwards read what the one before has read: samples of dropout's masks are wanted
    least_again: int = 3
    every_step: float = 0.8  # forwards a step from which a model that is never trained is part of the training


@check("EVL001", "missing-eval-mode", Severity.ERROR, faq="training/architecture/incorrect")
def missing_eval_mode(
    log: EvaluationLog, tree: ModuleTree | None, trace: TrainingTrace | None, limits: EvalModeLimits
) -> Iterator[Finding]:
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
    Monte-Carlo dropout wants it: several forwards of one batch in a row are left alone. Generators that are sampled
    without gradients while the critic trains, and target networks (momentum encoders) that are called at every step and
    never trained themselves, are left alone.
    ## References
    `torch.nn.Module.eval`; pytorch/pytorch issues on train-mode evaluation.
    """
    for place in log.places:
        if place.train_mode < limits.min_forwards or not place.mode_sensitive or not place.after_training:
            continue
        if place.during_training_window or place.source is None:
            continue
        if place.again >= max(limits.least_again, limits.again * place.forwards):
            continue
        if log.training_source is None and place.grad_enabled:
            continue  # no forward led to a backward: this may well be the training that does not work
        if tree is not None and trace is not None and _is_target_network(place, tree, trace, limits):
            continue
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


def _is_target_network(place: EvaluationPlace, tree: ModuleTree, trace: TrainingTrace, limits: EvalModeLimits) -> bool:
    """A model without gradients that is asked at every step: the momentum encoder of BYOL and its like."""
    own = [p for p in tree.parameters if p.root == place.root]
    frozen = bool(own) and not any(p.requires_grad or p.reached for p in own)
    return frozen and place.forwards >= limits.every_step * len(trace.steps)
