"""Initial weights of a wrong size, and parameters that are no numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.initial_products import InitialProducts, Product
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.registrations import Registrations
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.parameters import RescaleParameters

_RECURRENT = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")


class LargeInitLimits(Limits):
    """Thresholds of PAR003."""

    scale: float = (
        4.0  # weight RMS times sqrt(fan-in): 0.58 is PyTorch's default, 1.4 He's, orthogonal with gain 2 is 2
    )
    gain: float = 2.5  # output over input
    min_fan_in: int = 8
    target: float = 1.0


class SmallInitLimits(Limits):
    """Thresholds of PAR008."""

    scale: float = 0.03  # 0.02 at width 64, as language models use it, is 0.16
    share: float = 0.5  # of the weights
    min_layers: int = 2


@check("PAR003", "large-init", Severity.ERROR, faq="tuning/parameters/incorrect")
def large_init(
    products: InitialProducts, tree: ModuleTree | None, made: Registrations | None, limits: LargeInitLimits
) -> Iterator[Finding]:
    """Initial weights are so large that the signal grows from layer to layer.

    ## What it measures
    Before the first update, for every product with a weight: the weights' root mean square times the square root of
    the fan-in (0.58 for PyTorch's default, 1.4 for He's) and the ratio of output to input. Both must be large. Of
    recurrent layers the weights alone count: their state is bounded, and gates that start saturated stay so.
    ## Why it hurts
    Saturating units start at their bounds, softmax starts certain of wrong answers, and the gradient is dominated by
    noise; training first has to shrink what the initialisation blew up.
    ## Example
    ```python
    nn.init.normal_(layer.weight, 0.0, 1.0)
    ```
    ## Use instead
    ```python
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    ```
    ## When it is right
    Embeddings start at N(0, 1) in PyTorch, also where they are tied to the output; frozen random features and
    reservoirs have no gradient. Normalisation layers make the size irrelevant: the trial then shows no gain.
    ## References
    Glorot and Bengio (2010); He et al. (2015).
    """
    embeddings = {p.name for p in tree.parameters if "Embedding" in p.module_kind} if tree else set()
    large = [
        p
        for p in products.products
        if p.fan_in >= limits.min_fan_in
        and p.scale >= limits.scale
        and p.gain >= limits.gain
        and p.parameter not in embeddings
    ]
    large += [p for p in _recurrent(tree) if p.scale >= limits.scale and p.fan_in >= limits.min_fan_in]
    if not large:
        return
    worst = max(large, key=lambda p: p.scale)
    yield Finding(
        message=f"{_names(large)}: initial weights are {worst.scale:.3g} times 1/sqrt(fan-in) "
        f"(fan-in {worst.fan_in})"
        + (f", and the output is {worst.gain:.3g} times as large as the input" if worst.gain else ""),
        location=_place(large, tree, made),
        measured={
            "weight_scale": Measure(value=worst.scale, threshold=limits.scale),
            "gain": Measure(value=worst.gain, threshold=limits.gain),
        },
        remedy="scale the initial weights with the fan-in: nn.init.kaiming_normal_ / xavier_uniform_, or leave the default",
        treatment=RescaleParameters(factors=tuple((p.parameter, limits.target / p.scale) for p in large)),
    )


@check(
    "PAR008",
    "small-init",
    Severity.WARNING,
    faq="tuning/parameters/incorrect",
    faults=("zero-init", "vanishing-gradients", "small-init"),
)
def small_init(
    products: InitialProducts,
    tree: ModuleTree | None,
    made: Registrations | None,
    trace: TrainingTrace,
    limits: SmallInitLimits,
) -> Iterator[Finding]:
    """Initial weights are so small that neither signal nor gradient comes through.

    ## What it measures
    Weights' root mean square times the square root of the fan-in, below `scale` for at least `share` of the weights,
    while the loss stands still.
    ## Why it hurts
    Both the output and the gradient are products of all layers: the first epochs pass before anything moves.
    ## Example
    ```python
    nn.init.normal_(layer.weight, std=1e-4)
    ```
    ## Use instead
    ```python
    nn.init.kaiming_normal_(layer.weight)
    ```
    ## When it is right
    Last layers of residual branches and heads start small by design; they are a minority, and the loss falls.
    ## References
    He et al. (2015), section 2.2.
    """
    weights = [p for p in products.products if p.fan_in >= 4]
    small = [p for p in weights if 0.0 < p.scale <= limits.scale]
    if len(small) < limits.min_layers or len(small) < limits.share * len(weights) or not trace.stands_still(0.05):
        return
    least = min(small, key=lambda p: p.scale)
    yield Finding(
        message=f"{_names(small)}: initial weights are {least.scale:.2g} times 1/sqrt(fan-in), and the loss stands still",
        location=_place(small, tree, made),
        measured={"weight_scale": Measure(value=least.scale, threshold=limits.scale)},
        remedy="scale the initial weights with the fan-in: nn.init.kaiming_normal_, or leave the default",
        treatment=RescaleParameters(factors=tuple((p.parameter, 1.0 / p.scale) for p in small)),
    )


@check("PAR004", "nan-params", Severity.ERROR, faq="tuning/parameters/missing")
def nan_params(tree: ModuleTree, made: Registrations | None) -> Iterator[Finding]:
    """A parameter is NaN or infinite before the first step.

    ## What it measures
    Every registered parameter, before the first update.
    ## Why it hurts
    One such number makes every output NaN.
    ## Example
    ```python
    self.scale = nn.Parameter(torch.empty(dim).log())
    ```
    ## Use instead
    ```python
    self.scale = nn.Parameter(torch.zeros(dim))
    ```
    ## When it is right
    Never, where it is trained. Buffers (masks of minus infinity) are no parameters.
    ## References
    `torch.empty` returns what the memory held.
    """
    broken = [p for p in tree.parameters if p.registered and not p.finite and p.requires_grad]
    if broken:
        first = broken[0]
        loads = made.loads if made else ()
        place = first.initialised or (loads[-1] if loads else None) or _made(first.name, made) or first.created
        yield Finding(
            message=f"{len(broken)} parameters hold NaN or infinite numbers before the first step: "
            + ", ".join(p.name for p in broken[:3]),
            location=Location(
                path=place.path if place else None,
                line=place.line if place else None,
                module=first.module or None,
                tensor=first.name,
            ),
            measured={"non_finite_parameters": Measure(value=len(broken), threshold=1)},
            remedy="initialise them, or look at the file from which they were loaded",
            demonstrated="the numbers were there before any training",
        )


class BandLimits(Limits):
    """Thresholds of PAR006."""

    lowest: float = 1e-6
    highest: float = 0.1


@check(
    "PAR006",
    "update-ratio",
    Severity.INFO,
    faq="tuning/parameters/incorrect",
    faults=("lr-too-high", "lr-too-low"),
    nature=Nature.OUTCOME,
)
def update_ratio(trace: TrainingTrace, limits: BandLimits) -> Iterator[Finding]:
    """Steps are far larger or far smaller than the parameters suggest.

    ## What it measures
    |change of the parameters| / |parameters| of each step, median over an optimizer's steps.
    ## Why it hurts
    A hint only: around 1e-3 trains well; orders above throws knowledge away, orders below does not get anywhere.
    ## Example
    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-8)
    ```
    ## Use instead
    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    ```
    ## When it is right
    Parameters that start at zero, and fine-tuning.
    ## References
    Karpathy, CS231n, "Ratio of weights:updates".
    """
    for optimizer in trace.optimizers:
        ratio = trace.typical_update_ratio(optimizer)
        if ratio is None or limits.lowest <= ratio <= limits.highest or len(trace.of(optimizer)) < 8:
            continue
        bound = limits.highest if ratio > limits.highest else limits.lowest
        yield Finding(
            message=f"the median step of optimizer {optimizer} changes the parameters by {ratio:.2g} of their size",
            location=Location(
                path=trace.loss_source.path if trace.loss_source else None,
                line=trace.loss_source.line if trace.loss_source else None,
            ),
            measured={"update_ratio": Measure(value=ratio, threshold=bound)},
            remedy="look at the learning rate and at the size of the gradients",
        )


def _recurrent(tree: ModuleTree | None) -> list[Product]:
    """The trained matrices of recurrent layers, whose products one fused operation hides; their gain is unknown."""
    return [
        Product(
            p.name, p.shape[1], math.hypot(p.mean, p.std), output_rms=0.0, module=p.module, module_kind=p.module_kind
        )
        for p in (tree.parameters if tree else ())
        if p.module_kind in _RECURRENT and len(p.shape) == 2 and p.requires_grad
    ]


def _names(products: list[Product]) -> str:
    return ", ".join(p.parameter for p in products[:3]) + (" ..." if len(products) > 3 else "")


def _made(name: str, made: Registrations | None) -> Source | None:
    return made.lines.get(name) if made else None


def _place(products: list[Product], tree: ModuleTree | None, made: Registrations | None) -> Location:
    known = {p.name: p for p in tree.parameters} if tree else {}
    records = [known[p.parameter] for p in products if p.parameter in known]
    lines = [r.initialised for r in records] + [_made(p.parameter, made) for p in products]
    source = next((line for line in lines if line is not None), None)
    module = next((p.module for p in products if p.module), None)
    return Location(path=source.path if source else None, line=source.line if source else None, module=module)
