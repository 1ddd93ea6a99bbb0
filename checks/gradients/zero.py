"""Gradients that are exactly zero on a path that exists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from doctor.evidence.gradient_flow import GradientFlow, ParameterGradient
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.update_log import GradientEnd, UpdateLog
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import Limits, check

_WORDS = {
    "Mul": "a product with zeros",
    "Clamp": "a clamp whose bounds no value is within",
    "Where": "a where that takes the other branch everywhere",
    "MaskedFill": "a mask that covers everything",
    "Softmax": "a softmax over one value, which is always 1",
    "Floor": "a rounding",
    "Round": "a rounding",
    "Sign": "a sign",
    "Sigmoid": "a sigmoid at its bounds",
    "Tanh": "a tanh at its bounds",
    "Hardtanh": "a clamp whose bounds no value is within",
}


class ZeroLimits(Limits):
    """Thresholds of GRD006."""

    min_steps: int = 4  # sampled steps, all of them zero: a weight of zeros further up moves after the first
    error_share: float = 0.3  # of the weight matrices


@check(
    "GRD006",
    "zero-gradients",
    Severity.WARNING,
    faq="tuning/gradients/missing",
    faults=("params-not-updating", "zero-gradients", "detached-graph"),
    nature=Nature.CONDITION,
)
def zero_gradients(
    flow: GradientFlow, updates: UpdateLog, tree: ModuleTree | None, limits: ZeroLimits
) -> Iterator[Finding]:
    """The loss reaches weights, but their gradient is exactly zero at every step.

    ## What it measures
    Weight matrices whose gradient was zero in all elements at every sampled step, and the node of the backward that
    took a gradient and gave on only zeros.
    ## Why it hurts
    These weights are never trained; the loss looks as if they were.
    ## Example
    ```python
    scores = torch.clamp(self.head(x), 5.0, 6.0)
    ```
    ## Use instead
    ```python
    scores = self.head(x)
    ```
    ## When it is right
    Branches that start at zero (LoRA, residual gates) have a gradient after the first step. Dead ReLU units are told by
    GRD004. A library's attention over a single token (an image as small as its patches) is only told. Terms that are multiplied by 0 so that every parameter is in the graph are only a warning.
    ## References
    PyTorch documentation, "Autograd mechanics".
    """
    weights = [w for w in flow.weights() if w.module_kind not in ("Embedding", "EmbeddingBag")]
    zero = [w for w in weights if len(w.rms) >= limits.min_steps and all(value == 0.0 for value in w.rms)]
    ends = [end for end in updates.ends if _kind(end) is not None]
    if not zero or not ends or len(zero) == len(weights) == 0:
        return
    end = next((end for end in ends if end.source is not None), ends[0])
    large = len(zero) >= limits.error_share * len(weights)
    yield Finding(
        message=f"the gradient of {len(zero)} of {len(weights)} weights is exactly zero at all {len(zero[0].rms)} sampled "
        f"steps ({zero[0].name}): it ends at {_WORDS[_kind(end) or 'Mul']}",
        location=Location(
            path=end.source.path if end.source else None,
            line=end.source.line if end.source else None,
            module=end.module or None,
        ),
        measured={"zero_weights": Measure(value=len(zero), threshold=1)},
        remedy="take the operation out, or make it one through which a gradient can pass",
        severity=Severity.INFO if _lone_token(end, zero, tree) else Severity.ERROR if large else None,
        demonstrated="no element of these gradients was different from zero at any sampled step",
    )


def _lone_token(end: GradientEnd, zero: Sequence[ParameterGradient], tree: ModuleTree | None) -> bool:
    # a softmax that the user did not write: no edit takes it out, and larger inputs would give it more to choose from
    if tree is None or _kind(end) != "Softmax":
        return False
    holders = [tree.module(weight.module) for weight in zero]
    return all(module is not None and not module.authored for module in holders)


def _kind(end: GradientEnd) -> str | None:
    return next((word for word in _WORDS if end.node.lower().startswith(word.lower())), None)
