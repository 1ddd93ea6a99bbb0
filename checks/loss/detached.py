"""Losses from which no gradient comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from doctor.evidence.base import Source
from doctor.evidence.critic_log import CriticLog
from doctor.evidence.loss_graph import GraphCut, LossGraph
from doctor.evidence.loss_terms import LossTerms
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.program_run import ProgramRun
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

_WORDS = {
    "_local_scalar_dense": ".item() (or float()) leaves the graph",
    "argmax": "argmax has no derivative",
    "argmin": "argmin has no derivative",
    "round": "round has derivative 0",
    "floor": "floor has derivative 0",
    "detach": "detach() ends the graph",
    "gt": "a comparison has no derivative",
    "ge": "a comparison has no derivative",
    "lt": "a comparison has no derivative",
    "eq": "a comparison has no derivative",
    "_to_copy": "a conversion to integers has no derivative",
    "topk": "indices have no derivative",
}


class DetachedLimits(Limits):
    """Thresholds of LOS006."""

    lost_share: float = 0.3  # share of the trainable parameters lost at a cut; fewer, where an optimizer holds them all


@check(
    "LOS006",
    "non-differentiable-loss",
    Severity.ERROR,
    faq=("training/loss/missing", "tuning/gradients/missing"),
    faults=("non-differentiable-loss", "detached-graph"),
)
def non_differentiable_loss(
    graph: LossGraph,
    run: ProgramRun | None,
    tree: ModuleTree | None,
    terms: LossTerms | None,
    critics: CriticLog | None,
    limits: DetachedLimits,
) -> Iterator[Finding]:
    """The loss does not depend on the parameters as far as autograd can see.

    ## What it measures
    The leaves of the loss's graph at the sampled backwards. Fires when they hold no trainable parameter, or when the
    tape shows an operation that used parameters, whose result went on to the loss without a gradient, and by which at
    least `lost_share` of the trainable parameters never get one, or some that an optimizer holds and nothing moves.
    ## Why it hurts
    What lies above the cut is never trained, while the loss value looks as it should.
    ## Example
    ```python
    predicted = model(x).argmax(1).float()
    loss = F.mse_loss(predicted, y).requires_grad_()
    ```
    ## Use instead
    ```python
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    ```
    ## When it is right
    Targets may be detached (teachers, target networks), and hidden states between windows of a sequence: the parameters
    are then reached by another path, and the rule is silent.
    ## References
    PyTorch documentation, "Autograd mechanics".
    """
    # The last of the widest: operations above it keep detached copies of their results for their own derivative.
    cut = max(reversed(graph.cuts), key=lambda found: len(found.lost), default=None)
    crash = run.crash if run else None
    if crash is not None and "does not require grad and does not have a grad_fn" in crash.message:
        if tree is not None and tree.parameters and not any(p.requires_grad for p in tree.parameters):
            return  # everything is frozen: OPT016
        yield _finding("backward fails: the loss has no gradient function", cut, crash.source, 0, len(graph.trainable))
        return
    if not graph.backwards or not graph.trainable:
        return
    never = set(graph.never_reached())
    reached = [name for name in graph.trainable if name not in never]
    source = graph.backwards[0].source
    if not reached and not any(
        name.startswith("<tensor") for record in graph.backwards for name in record.reached if not record.leaf_loss
    ):
        what = "a leaf without history" if graph.backwards[0].leaf_loss else "without a parameter above it"
        yield _finding(f"the loss is {what}", cut, source, 0, len(graph.trainable))
    elif cut is not None and _left_out(cut, terms):
        return  # LOS013
    elif cut is not None and (len(cut.lost) >= limits.lost_share * len(graph.trainable) or _idle(cut, never, tree)):
        blind = next((c for c in (critics.critics if critics else ()) if not c.through and len(c.cuts) > 1), None)
        if blind is not None:  # the critic's own step cuts it off as well, and rightly so
            cut = replace(cut, source=blind.cuts[-1])
        yield _finding("the gradient's way is cut", cut, source, len(reached), len(graph.trainable))


def _left_out(cut: GraphCut, terms: LossTerms | None) -> bool:
    """Whether the result at the cut is a criterion that no loss takes up."""
    unused = [term for term in (terms.unused if terms else ()) if term.operation != "detach" and term.lost]
    return any(term.source == cut.source and set(term.lost) >= set(cut.lost) for term in unused)


def _idle(cut: GraphCut, never: set[str], tree: ModuleTree | None) -> bool:
    """Whether an optimizer holds everything that was lost, and none of it was reached or moved."""
    held = {p.name for p in tree.parameters if p.optimizer is not None} if tree else set()
    return set(cut.lost) <= (held & never)


def _finding(what: str, cut: GraphCut | None, source: Source | None, reached: int, trainable: int) -> Finding:
    place = cut.source if cut and cut.source else source
    why = (
        f": {_WORDS.get(cut.operation, f'the result of {cut.operation} goes on without its graph (.data, numpy)')}"
        if cut
        else ""
    )
    return Finding(
        message=f"{what}{why}; {reached} of {trainable} trainable parameters get a gradient",
        location=Location(
            path=place.path if place else None,
            line=place.line if place else None,
            module=(cut.module or None) if cut else None,
        ),
        measured={"reached": Measure(value=reached, threshold=trainable, unit="parameters")},
        remedy="compute the loss from the differentiable output: no argmax, round, item, numpy, detach or torch.tensor "
        "between the model and the loss",
        demonstrated=f"{trainable - reached} of {trainable} parameters got no gradient in any sampled backward",
    )
