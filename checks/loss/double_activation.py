"""Probabilities fed to losses that want logits."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import BypassActivation, Place

from .places import at, related

# What leaves probabilities recognisable as such: shape, type and scale.
_THROUGH = frozenset(
    {
        "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "squeeze", "unsqueeze", "slice", "select",
        "clone", "_to_copy", "expand", "clamp", "clamp_min", "index", "cat", "stack", "alias", "detach",
        "_reshape_alias", "masked_select", "mul", "div", "add",
    }
)  # fmt: skip


class DoubleActivationLimits(Limits):
    """Thresholds of LOS001 and LOS002."""

    min_losses: int = 1


@check(
    "LOS001",
    "softmax-before-cross-entropy",
    Severity.ERROR,
    faq=("training/architecture/duplicated", "training/loss/incorrect"),
    faults=("wrong-output-activation",),
)
def softmax_before_cross_entropy(
    tape: OpTape, tree: ModuleTree | None, limits: DoubleActivationLimits
) -> Iterator[Finding]:
    """Softmax (or sigmoid) outputs are fed to a cross-entropy that applies its own softmax.

    ## What it measures
    On the taped step, every `log_softmax` of the loss: whether a softmax or sigmoid stands upstream of it with nothing
    but changes of shape, type or scale between. Attention softmaxes are followed by a matrix product and are not meant.
    ## Why it hurts
    The second softmax sees numbers between 0 and 1: the loss cannot fall below about ln(C) - 1, gradients shrink.
    ## Example
    ```python
    probabilities = torch.softmax(self.fc(x), dim=1)
    loss = F.cross_entropy(probabilities, y)
    ```
    ## Use instead
    ```python
    logits = self.fc(x)
    loss = F.cross_entropy(logits, y)
    ```
    ## When it is right
    `log_softmax` before cross-entropy is redundant and harmless (it is idempotent), and silent; so is
    `log(softmax(x))` into `nll_loss`.
    ## References
    `torch.nn.CrossEntropyLoss`: "The input is expected to contain the unnormalized logits".
    """
    for loss in tape.first.named("_log_softmax"):
        found = _activation_above(tape.first, loss, ("_softmax", "sigmoid"))
        if found is not None and _reaches_loss(tape.first, loss):
            function = "softmax" if found.name == "_softmax" else "sigmoid"
            yield _finding(found, loss, function, "cross-entropy", "cross_entropy", tree)
            return
    for logarithm in tape.first.named("log"):  # written by hand, or nll_loss of a log
        second = _activation_above(tape.first, logarithm, ("_softmax",))
        found = _activation_above(tape.first, second, ("_softmax", "sigmoid")) if second is not None else None
        if second is not None and found is not None:
            function = "softmax" if found.name == "_softmax" else "sigmoid"
            yield _finding(found, second, function, "a second softmax", "the last softmax", tree)
            return


@check(
    "LOS002",
    "sigmoid-before-bce-with-logits",
    Severity.ERROR,
    faq=("training/architecture/duplicated", "training/loss/incorrect"),
    faults=("wrong-output-activation",),
)
def sigmoid_before_bce_with_logits(
    tape: OpTape, tree: ModuleTree | None, limits: DoubleActivationLimits
) -> Iterator[Finding]:
    """Sigmoid outputs are fed to a binary cross-entropy that applies its own sigmoid.

    ## What it measures
    On the taped step, every `binary_cross_entropy_with_logits`: whether a sigmoid or softmax stands upstream of its
    input with nothing but changes of shape, type or scale between.
    ## Why it hurts
    The loss sees "logits" between 0 and 1: no prediction below 0.5 is possible, and negatives are never learnt.
    ## Example
    ```python
    score = torch.sigmoid(self.fc(x))
    loss = F.binary_cross_entropy_with_logits(score, y)
    ```
    ## Use instead
    ```python
    score = self.fc(x)
    loss = F.binary_cross_entropy_with_logits(score, y)
    ```
    ## When it is right
    A sigmoid inside the network (gates, attention) is followed by products and layers and is not meant.
    ## References
    `torch.nn.BCEWithLogitsLoss`: "combines a Sigmoid layer and the BCELoss in one single class".
    """
    for loss in tape.first.named("binary_cross_entropy_with_logits"):
        found = _activation_above(tape.first, loss, ("sigmoid", "_softmax"))
        if found is not None:
            function = "sigmoid" if found.name == "sigmoid" else "softmax"
            yield _finding(
                found, loss, function, "binary cross-entropy with logits", "binary_cross_entropy_with_logits", tree
            )
            return
    for loss in tape.first.named("binary_cross_entropy"):
        second = _activation_above(tape.first, loss, ("sigmoid",))
        found = _activation_above(tape.first, second, ("sigmoid", "_softmax")) if second is not None else None
        if second is not None and found is not None:
            function = "sigmoid" if found.name == "sigmoid" else "softmax"
            yield _finding(found, second, function, "a second sigmoid", "the last sigmoid", tree)
            return


def _activation_above(tape: Tape, loss: Op, names: tuple[str, ...]) -> Op | None:
    queue, seen = [note.id for note in loss.inputs[:1]], set[int]()  # the prediction; targets and weights do not count
    while queue:
        op = tape.producer(queue.pop(0))
        if op is None or op.index in seen or op.index >= loss.index:
            continue
        seen.add(op.index)
        if op.name in names and op.inputs and op.inputs[0].requires_grad and op.grad_enabled:
            return op
        if op.name in _THROUGH and not _gates(op):
            queue.extend(note.id for note in op.inputs)
    return None


def _gates(op: Op) -> bool:
    """Whether one result of the model scales another (a gate, a mixture of experts): its weights may be a softmax."""
    both = [note for note in op.inputs if note.requires_grad and note.shape not in ((), (1,))]
    return op.name in ("mul", "div") and len(both) > 1


def _reaches_loss(tape: Tape, op: Op) -> bool:
    """Whether a log-probability is what the loss is made of (attention may use log_softmax, too)."""
    if not op.outputs:
        return False
    names = {consumer.name for consumer in tape.consumers(op.outputs[0].id)}
    return bool(
        names & {"nll_loss_forward", "nll_loss2d_forward", "mul", "gather", "neg", "view", "index", "_ctc_loss"}
    )


def _finding(
    found: Op, loss: Op, function: str, loss_name: str, loss_function: str, tree: ModuleTree | None
) -> Finding:
    place = found.source
    own = found.module if found.module_kind in ("Softmax", "Sigmoid") else ""
    # The layer is to go, and stands where it is constructed: it runs on the line that calls all layers.
    layer = tree.module(own, found.root or 0) if tree is not None and own else None
    line = layer.created if layer is not None and layer.created else place
    return Finding(
        message=f"{function} output of shape {'x'.join(map(str, found.outputs[0].shape))} is fed to {loss_name}, "
        "which expects logits",
        location=at(line, found.module),
        demonstrated=f"{function} stands between the last layer and {loss_name}",
        measured={"activations_before_loss": Measure(value=1, threshold=0)},
        remedy=f"feed the logits to {loss_function}; apply {function} only where probabilities are read",
        treatment=BypassActivation(
            function=function, place=Place(path=place.path, line=place.line) if place else Place(), module=own
        ),
        related=related(loss.source, f"{loss_name} is computed here"),
    )
