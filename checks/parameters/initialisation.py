"""Parameters that start where they cannot learn."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.module_tree import ModuleTree, ParameterRecord
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import Reinitialise

_WEIGHTED = ("Linear", "Conv1d", "Conv2d", "Conv3d", "Bilinear", "ConvTranspose2d", "Conv1D")


class ZeroInitLimits(Limits):
    """Thresholds of PAR001."""

    min_layers: int = 2  # zero weight matrices; one alone is a common way to start a head or a residual branch


class SymmetricLimits(Limits):
    """Thresholds of PAR002."""

    min_units: int = 2


@check("PAR001", "zero-init", Severity.ERROR, faq="tuning/parameters/incorrect", faults=("zero-init", "symmetric-init"))
def zero_init(tree: ModuleTree, limits: ZeroInitLimits) -> Iterator[Finding]:
    """Weight matrices of several layers start at zero.

    ## What it measures
    Weight matrices and kernels that are all zero before the first step. Two that follow each other block each other's
    gradient: the rule fires when at least `min_layers` of them make up half of a model's weight layers or more, or when
    as many zero embeddings (of factors that are multiplied), or scales of norm layers, never move.
    ## Why it hurts
    With zero weights above, no gradient arrives; with zero weights below, nothing is passed on.
    ## Example
    ```python
    for layer in (self.fc1, self.fc2):
        nn.init.zeros_(layer.weight)
    ```
    ## Use instead
    ```python
    for layer in (self.fc1, self.fc2):
        nn.init.kaiming_uniform_(layer.weight)
    ```
    ## When it is right
    Zero in the last layer of a residual branch, of a head, or in LoRA's B is good practice: each has a path around it.
    ## References
    Goodfellow et al., "Deep Learning" (2016), section 8.4.
    """
    for root in tree.roots:
        weights = [p for p in tree.parameters if p.root == root.index and _is_weight(p)]
        zero = [p for p in weights if p.zero_share == 1.0]
        embeddings = [p for p in tree.parameters if p.module_kind == "Embedding" and p.zero_share == 1.0]
        if len(zero) >= limits.min_layers and 2 * len(zero) >= len(weights):
            yield _finding(
                zero + embeddings,
                f"{len(zero)} of {len(weights)} weight matrices are zero before the first step",
                {"zero_layers": Measure(value=len(zero), threshold=limits.min_layers)},
                demonstrated="layers of zeros stand one after the other and block each other's gradient",
            )
        elif sum(_stays_zero(p) for p in embeddings) >= limits.min_layers:
            held = [p for p in embeddings if _stays_zero(p)]
            yield _finding(
                held,
                f"{len(held)} embeddings are zero before the first step and after the last",
                {"zero_embeddings": Measure(value=len(held), threshold=limits.min_layers)},
                demonstrated="their product is zero, and so is the gradient of each",
            )
        else:
            yield from _scales(tree, root.index, limits)


@check(
    "PAR002", "symmetric-init", Severity.ERROR, faq=("tuning/parameters/duplicated", "training/architecture/duplicated")
)
def symmetric_init(tree: ModuleTree, limits: SymmetricLimits) -> Iterator[Finding]:
    """All units of a layer start equal and stay equal.

    ## What it measures
    Weight matrices whose rows (units) are identical, and not zero, before the first step and still at the last observed
    one.
    ## Why it hurts
    Equal units get equal gradients: a layer of any width is worth one unit.
    ## Example
    ```python
    nn.init.constant_(self.fc1.weight, 0.01)
    ```
    ## Use instead
    ```python
    nn.init.xavier_uniform_(self.fc1.weight)
    ```
    ## When it is right
    Layers with one output cannot be symmetric; norm layers start at 1 by design and are vectors, not matrices. A
    constant layer whose units dropout or its successor tells apart does not stay equal, and is silent.
    ## References
    Goodfellow et al., "Deep Learning" (2016), section 8.4; Hinton's "break the symmetry".
    """
    equal = [
        p
        for p in tree.parameters
        if _is_weight(p)
        and p.shape[0] >= limits.min_units
        and p.equal_units
        and p.zero_share < 1.0
        and (p.still_equal_units or p.std <= 1e-6 * abs(p.mean))  # a constant, but for rounding
        and p.optimizer is not None
    ]
    if equal:
        units = sum(p.shape[0] for p in equal)
        kept = sum(p.still_equal_units for p in equal)
        yield _finding(
            equal,
            f"all units of {len(equal)} layers start with the same weights ({kept} of them keep them equal)",
            {"equal_units": Measure(value=units, threshold=limits.min_units, unit="units")},
        )


def _scales(tree: ModuleTree, root: int, limits: ZeroInitLimits) -> Iterator[Finding]:
    """Norm layers that multiply by zero for good. The last norm of a residual branch starts at zero, too, but moves."""
    norms = [p for p in tree.parameters if p.root == root and _is_scale(p)]
    dead = [p for p in norms if p.zero_share == 1.0 and p.moved == 0.0 and p.optimizer is not None and p.reached > 0]
    if len(dead) < limits.min_layers or 2 * len(dead) < len(norms):
        return
    yield _finding(
        dead,
        f"the scales of {len(dead)} of {len(norms)} norm layers are zero before the first step and after the last",
        {"zero_scales": Measure(value=len(dead), threshold=limits.min_layers)},
        demonstrated="what they pass on is constant, and no gradient reaches them",
        remedy="start the scales of norm layers at one (nn.init.ones_); zero is for the last norm of a residual branch only",
    )


def _is_scale(parameter: ParameterRecord) -> bool:
    normed = "Norm" in parameter.module_kind and parameter.name.endswith("weight")
    return normed and len(parameter.shape) == 1 and parameter.requires_grad


def _stays_zero(parameter: ParameterRecord) -> bool:
    trained = parameter.optimizer is not None and parameter.reached > 0
    return trained and len(parameter.shape) == 2 and parameter.shape[1] > 1 and parameter.moved == 0.0


def _is_weight(parameter: ParameterRecord) -> bool:
    return len(parameter.shape) >= 2 and parameter.module_kind in _WEIGHTED and parameter.requires_grad


def _finding(
    parameters: list[ParameterRecord],
    message: str,
    measured: dict[str, Measure],
    demonstrated: str | None = None,
    remedy: str = "initialise with random weights (nn.init.kaiming_uniform_, nn.init.xavier_uniform_)",
) -> Finding:
    modules = tuple(dict.fromkeys(p.module for p in parameters))
    place = next((p.initialised or p.created for p in parameters if p.initialised or p.created), None)
    shown = ", ".join(p.name for p in parameters[:3]) + (" ..." if len(parameters) > 3 else "")
    return Finding(
        message=f"{message}: {shown}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=modules[0] or None
        ),
        measured=measured,
        remedy=remedy,
        treatment=Reinitialise(modules=modules),
        demonstrated=demonstrated,
    )
