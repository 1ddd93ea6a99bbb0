"""Optimizers that hold tensors which the model no longer uses."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.module_tree import ModuleTree, ParameterRecord
from doctor.evidence.optimizer_log import MissedParameter, OptimizerLog, OptimizerRecord
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import OptimizeReachedParameters


class StaleLimits(Limits):
    """Thresholds of OPT006."""

    min_steps: int = 2  # steps of some optimizer, so that a later one had its chance


def replaced(log: OptimizerLog, tree: ModuleTree | None) -> tuple[list[MissedParameter], list[str]]:
    """Parameters that the loss reaches and no optimizer holds, and held tensors whose place they took.

    A held tensor counts when no sampled backward reached it and it belongs to no model that is called.
    """
    missed = [parameter for parameter in log.missed if parameter.in_model]
    if tree is None or not missed:
        return [], []
    called = {root.index for root in tree.roots if root.forwards or root.inside is not None}
    known = {parameter.name: parameter for parameter in tree.parameters}
    stale = [name for name in sorted(log.parameter_names()) if _is_stale(known.get(name), called)]
    return (missed, stale) if stale else ([], [])


def _is_stale(parameter: ParameterRecord | None, called: set[int]) -> bool:
    if parameter is None or parameter.reached:
        return False
    return not parameter.registered or parameter.root not in called


@check("OPT006", "stale-optimizer", Severity.ERROR, faq="training/optimizer/incorrect")
def stale_optimizer(log: OptimizerLog, tree: ModuleTree | None, limits: StaleLimits) -> Iterator[Finding]:
    """The optimizer was built before parameters were replaced: it steps tensors that the model no longer uses.

    ## What it measures
    Tensors that an optimizer holds, that no sampled backward reaches and that belong to no model that is called;
    together with parameters of the called model that the loss reaches and no optimizer holds. Both must be there.
    ## Why it hurts
    The new parameters keep their initial values, and the steps go nowhere.
    ## Example
    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.fc = nn.Linear(512, 10)
    ```
    ## Use instead
    ```python
    model.fc = nn.Linear(512, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ```
    ## When it is right
    Never: moving a model to a device keeps its parameters and is silent; copies for averaging are not in the loss.
    ## References
    `torch.optim` documentation: "construct the optimizer after the model is on its device and complete".
    """
    missed, stale = replaced(log, tree)
    if not missed or log.steps < limits.min_steps or tree is None:
        return
    holder = _holder(log, stale)
    place = holder.created
    new = next((p for p in tree.parameters if p.name == missed[0].name), None)
    shown = ", ".join(parameter.name for parameter in missed[:4]) + (
        f" and {len(missed) - 4} more" if len(missed) > 4 else ""
    )
    yield Finding(
        message=f"{len(stale)} of the {len(holder.parameters)} tensors of {holder.kind} belong to no model that runs, and "
        f"{len(missed)} parameters that the loss reaches are in no optimizer: {shown}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=missed[0].module or None
        ),
        measured={
            "stale": Measure(value=len(stale), threshold=0, unit="tensors"),
            "missed": Measure(value=len(missed), threshold=0, unit="tensors"),
        },
        remedy="build the optimizer after the model has got its last parameters",
        treatment=OptimizeReachedParameters(optimizer=holder.index),
        related=_related(new.created if new else None, missed[0]),
        demonstrated="the optimizer holds tensors that no forward uses, in place of those that it should",
    )


def _holder(log: OptimizerLog, stale: list[str]) -> OptimizerRecord:
    return max(log.optimizers, key=lambda record: len(set(record.parameters) & set(stale)))


def _related(place: Source | None, missed: MissedParameter) -> tuple[Related, ...]:
    if place is None:
        return ()
    where = Location(path=place.path, line=place.line, module=missed.module or None)
    return (Related(location=where, message="the parameters that are missed are made here"),)
