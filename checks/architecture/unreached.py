"""Parameters that are in the loss but not in the model, or in the model but not in the loss."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.call_log import CallLog
from doctor.evidence.module_tree import ModuleTree, ParameterRecord, RootRecord
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.registrations import Registrations
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import OptimizeReachedParameters


class UnregisteredLimits(Limits):
    """Thresholds of ARC004."""

    min_steps: int = 1


class UnusedLimits(Limits):
    """Thresholds of ARC005."""

    min_backwards: int = 2  # sampled backwards


@check("ARC004", "unregistered-modules", Severity.ERROR, faq="training/architecture/missing")
def unregistered_modules(log: OptimizerLog, tree: ModuleTree, limits: UnregisteredLimits) -> Iterator[Finding]:
    """Layers that the model uses are not registered in it, so that no optimizer gets their parameters.

    ## What it measures
    Leaves of the loss's graph that require a gradient, belong to layers which are called inside the model without being
    part of it (or to no module at all), and are held by no optimizer.
    ## Why it hurts
    `parameters()`, `to(device)`, `state_dict()` and `train()` pass these layers by: they never train and are not saved.
    ## Example
    ```python
    self.layers = [nn.Linear(64, 64) for _ in range(3)]
    ```
    ## Use instead
    ```python
    self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(3))
    ```
    ## When it is right
    A list is a known trick to hide a frozen teacher from `parameters()`: it is frozen, and silent. Inputs that are
    optimised (adversarial examples, latent codes) are no weights of a layer.
    ## References
    `torch.nn.ModuleList`.
    """
    if not log.optimizers or log.steps < limits.min_steps:
        return
    missed = [p for p in log.missed if not p.in_model and not p.name.startswith("<tensor")]
    if not missed:
        return
    hidden = _hidden(tree, {p.name for p in missed})
    places = {root.created for root in hidden if root.created is not None}
    places = places or {p.source for p in missed if p.source is not None}
    place = min(places, key=lambda source: (source.path, source.line)) if places else None
    layers = len({p.name.rpartition(".")[0] for p in missed})
    yield Finding(
        message=f"{layers} layers with {len(missed)} parameters are used by the model and registered nowhere",
        location=Location(path=place.path if place else None, line=place.line if place else None),
        measured={"unregistered": Measure(value=len(missed), threshold=0, unit="tensors")},
        remedy="hold layers in nn.ModuleList, nn.ModuleDict or nn.Sequential, and weights as nn.Parameter attributes",
        treatment=OptimizeReachedParameters(),
        demonstrated="the loss reaches parameters that model.parameters() does not give",
    )


def _hidden(tree: ModuleTree, names: set[str]) -> list[RootRecord]:
    """The modules, called inside another but no part of it, that hold these parameters: made where they are hidden."""
    holders = {p.root for p in tree.parameters if p.name in names}
    return [root for root in tree.roots if root.index in holders and root.inside is not None]


@check("ARC005", "unused-layers", Severity.WARNING, faq="training/architecture/incorrect")
def unused_layers(
    tree: ModuleTree,
    log: OptimizerLog | None,
    registered: Registrations | None,
    calls: CallLog | None,
    limits: UnusedLimits,
) -> Iterator[Finding]:
    """Layers of the model are never reached by the loss.

    ## What it measures
    Registered parameters that require a gradient and that no sampled backward's graph contains, in modules that no
    training forward called and that the user's own code made. So are single parameters (`nn.Parameter`) of the user's own
    modules, which run without them, when an optimizer holds them and they stay where they were.
    ## Why it hurts
    The model is smaller than it was meant to be; often another layer stands where the unused one should.
    ## Example
    ```python
    x = self.stage1(x)
    x = self.stage1(x)
    ```
    ## Use instead
    ```python
    x = self.stage1(x)
    x = self.stage2(x)
    ```
    ## When it is right
    Pooling heads and unused embeddings of library models are common (8 of 284 measured) and are told as info. Layers
    that are skipped at random or by routing are reached at some steps and are silent.
    ## References
    DistributedDataParallel's `find_unused_parameters`.
    """
    unused = [
        p
        for p in tree.parameters
        if p.registered
        and (p.requires_grad or p.optimizer is not None)
        and p.reached == 0
        and p.backwards_sampled >= limits.min_backwards
    ]
    roots = {root.index: root for root in tree.roots}
    by_root = {p.root for p in tree.parameters if p.reached}
    unused = [p for p in unused if p.root in by_root and p.root in roots]
    idle = [p for p in unused if _idle(tree, p)]
    unused = [p for p in unused if not _called(tree, p)]
    if not unused:
        yield from _forgotten(idle, registered)
        return
    own = [p for p in unused if p.created is not None and _authored(tree, p)]
    shown = own or unused
    tops = list(dict.fromkeys(_topmost(tree, p) for p in shown))
    first = tree.module(tops[0], shown[0].root or 0)
    place = (first.wanted or first.created if first else None) or shown[0].created
    modules = tops
    count = sum(p.numel for p in shown)
    silent = _without_gradients(tree, tops, shown)
    if silent and calls is not None:
        place = next((call.source for call in calls.of(tops[0], shown[0].root or 0) if call.source), place)
    yield Finding(
        message=f"{len(modules)} layers with {count} parameters are "
        + (
            "called without gradients only (no_grad, detach) though an optimizer holds them: "
            if silent
            else "never called in training: "
        )
        + ", ".join(modules[:4])
        + (" ..." if len(modules) > 4 else ""),
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=modules[0] or None
        ),
        severity=None if own else Severity.INFO,
        measured={"unused": Measure(value=count, threshold=0, unit="parameters")},
        remedy="let the gradient through: no no_grad() or detach() around them"
        if silent
        else "call the layers in forward, or remove them",
        faults=("detached-graph", "unused-layers") if silent else (),
        demonstrated=f"absent from the graph of {shown[0].backwards_sampled} backwards",
    )


def _idle(tree: ModuleTree, parameter: ParameterRecord) -> bool:
    """A parameter that the user's own module holds, runs without, and gives to an optimizer that never moves it."""
    module = tree.module(parameter.module, parameter.root or 0)
    own = module is not None and not module.builtin and module.authored and module.training_calls > 0
    return own and parameter.optimizer is not None and not parameter.moved and parameter.tied_to is None


def _forgotten(idle: list[ParameterRecord], registered: Registrations | None) -> Iterator[Finding]:
    if not idle:
        return
    first = idle[0]
    place = (registered.lines.get(first.name) if registered else None) or first.initialised or first.created
    names = ", ".join(p.name for p in idle[:4]) + (" ..." if len(idle) > 4 else "")
    yield Finding(
        message=f"{len(idle)} parameters are never used in training, though their module runs and an optimizer holds them: "
        f"{names}",
        location=Location(path=place.path if place else None, line=place.line if place else None, module=first.name),
        measured={"unused": Measure(value=sum(p.numel for p in idle), threshold=0, unit="parameters")},
        remedy="use them in forward, or remove them",
        faults=("unused-layers", "position-blind") if any("pos" in p.name.lower() for p in idle) else (),
        demonstrated=f"absent from the graph of {first.backwards_sampled} backwards, and not moved by any step",
    )


def _without_gradients(tree: ModuleTree, tops: list[str], shown: list[ParameterRecord]) -> bool:
    """Whether these layers are called again and again, and held by an optimizer: somebody meant to train them."""
    modules = [tree.module(top, shown[0].root or 0) for top in tops]
    called = all(
        module is not None and (module.calls >= 8 or any(m.calls >= 8 for m in tree.children(module.path, module.root)))
        for module in modules
    )
    return called and all(p.optimizer is not None for p in shown)


def _called(tree: ModuleTree, parameter: ParameterRecord) -> bool:
    module = tree.module(parameter.module, parameter.root or 0)
    return module is not None and module.training_calls > 0


def _authored(tree: ModuleTree, parameter: ParameterRecord) -> bool:
    module = tree.module(parameter.module, parameter.root or 0)
    return module is None or module.authored


def _topmost(tree: ModuleTree, parameter: ParameterRecord) -> str:
    """The highest module above a parameter that no training forward called."""
    parts = parameter.module.split(".")
    for length in range(1, len(parts)):
        path = ".".join(parts[:length])
        inner = tree.children(path, parameter.root or 0)
        own = tree.module(path, parameter.root or 0)
        running = own is not None and own.training_calls > 0
        if any(m.parameters for m in inner) and not running and not any(m.training_calls for m in inner):
            return path
    return parameter.module
