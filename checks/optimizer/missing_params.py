"""Parameters that the loss reaches and no optimizer was given."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import OptimizeReachedParameters

from .stale import replaced


class MissingParamsLimits(Limits):
    """Thresholds of OPT005."""

    min_steps: int = 2  # steps of some optimizer, so that a later one had its chance


@check("OPT005", "optimizer-missing-params", Severity.ERROR, faq="training/optimizer/missing")
def optimizer_missing_params(
    log: OptimizerLog, tree: ModuleTree | None, limits: MissingParamsLimits
) -> Iterator[Finding]:
    """Trainable parameters of the model receive gradients, but no optimizer holds them.

    ## What it measures
    The leaves of the loss's graph at the sampled backwards, against the parameters of all optimizers. A registered
    parameter that requires a gradient, is reached, and is in no optimizer is missed.
    ## Why it hurts
    These layers stay at their initial values, while the rest trains around them; their gradients pile up.
    ## Example
    ```python
    model = Net()
    optimizer = torch.optim.Adam(model.encoder.parameters())
    ```
    ## Use instead
    ```python
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    ```
    ## When it is right
    Freeze what shall not train with `requires_grad_(False)`: the rule is then silent, and backward is cheaper.
    Parameters of the other network of a GAN are held by the other optimizer. Parameters that took the place of those that
    the optimizer holds are a fault of their own (OPT006).
    ## References
    `torch.optim` documentation, "Constructing it".
    """
    if not log.optimizers or log.steps < limits.min_steps:
        return
    missed = [parameter for parameter in log.missed if parameter.in_model]
    if not missed or replaced(log, tree)[0]:
        return  # parameters that were replaced are told of by OPT006
    names = [parameter.name for parameter in missed]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    first = log.optimizers[0]
    place = first.created
    yield Finding(
        message=f"{len(names)} parameters are reached by the loss and held by no optimizer: {shown}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=missed[0].module or None
        ),
        measured={
            "missed": Measure(value=len(names), threshold=0, unit="tensors"),
            "held": Measure(value=len(log.parameter_names()), unit="tensors"),
        },
        remedy="give the optimizer model.parameters(), or freeze what shall not train with requires_grad_(False)",
        treatment=OptimizeReachedParameters(optimizer=first.index),
        demonstrated="the gradient arrives and no optimizer steps it",
    )
