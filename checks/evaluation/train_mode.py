"""Training that goes on in eval mode."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.forward_log import ForwardLog
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import check


@check("EVL002", "missing-train-mode", Severity.ERROR, faq="training/architecture/missing")
def missing_train_mode(log: ForwardLog) -> Iterator[Finding]:
    """The model trains in eval mode: it was never set back after an evaluation.

    ## What it measures
    The mode of every forward that a backward used. Fires when all dropout and batch normalisation layers of a model
    are in eval mode from some step on to the end, after an evaluation; or from the start when batch normalisation has
    statistics of no batch at all.
    ## Why it hurts
    Dropout no longer regularises, and batch normalisation works with old or initial statistics that are never updated.
    ## Example
    ```python
    model.train()
    for epoch in range(epochs):
        train_epoch(model, loader)
        evaluate(model, test_loader)
    ```
    ## Use instead
    ```python
    for epoch in range(epochs):
        model.train()
        train_epoch(model, loader)
        evaluate(model, test_loader)
    ```
    ## When it is right
    Fine-tuning with frozen batch normalisation: only those layers are in eval mode, or the whole model is on purpose,
    without an evaluation in between; both are silent. Models without such layers do not care.
    ## References
    `torch.nn.Module.train`.
    """
    for root in log.roots():
        trained = log.trained(root)
        asleep = [f.sleeps for f in trained]
        if not trained or not asleep[-1] or all(f.sensitive == 0 for f in trained):
            continue
        first = len(asleep) - next((i for i, slept in enumerate(reversed(asleep)) if not slept), len(asleep))
        since = trained[first:]
        evaluated = since[0].slept is not None and since[0].evaluated_since > 0
        if first and not evaluated:
            continue  # set to eval in the middle of training, without an evaluation: that is meant
        if not first and not evaluated and not since[0].fresh_norms:
            continue
        place = since[0].slept or since[0].source
        when = f"from step {since[0].step} on" if first else "from the first step on"
        here = since[0].source
        yield Finding(
            message=f"the {since[0].kind} trains in eval mode {when} ({len(since)} forwards): "
            f"{since[0].asleep} dropout or batch normalisation layers are switched off",
            location=Location(path=place.path if place else None, line=place.line if place else None),
            measured={"forwards_in_eval_mode": Measure(value=len(since), threshold=1)},
            remedy="call model.train() at the beginning of every training epoch",
            related=(Related(location=Location(path=here.path, line=here.line), message="the training forward"),)
            if here
            else (),
            demonstrated=f"{len(since)} forwards that a backward used ran in eval mode",
        )
