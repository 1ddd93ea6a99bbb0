"""Edits of the model, the loss, the data and the evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.findings import Finding
from doctor.patches.edits import (
    ActivateBetween,
    Edit,
    EnterEvalMode,
    EnterTrainMode,
    InitialiseRandomly,
    RegisterModules,
    RemoveCall,
    RenameCall,
    ReplaceArgument,
    SqueezeOperand,
    StayInGraph,
)
from doctor.patches.prescriptions import chosen, prescribes
from doctor.patches.prescriptions.optimizer import both

_DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "dropout", "dropout2d", "alpha_dropout")
_SOFTMAX = ("softmax", "log_softmax", "Softmax", "LogSoftmax", "normalize")


def _text(finding: Finding, name: str) -> str:
    return str(getattr(finding.treatment, name, "") or "")


@prescribes("bypass-activation")
def activation_left_out(finding: Finding) -> Iterator[Edit]:
    """The function is the treatment's."""
    yield RemoveCall(function=_text(finding, "function"), module=finding.location.module or "")


@prescribes("replace-activation")
def activation_replaced(finding: Finding) -> Iterator[Edit]:
    """The functions are the treatment's."""
    yield RenameCall(function=_text(finding, "function"), replacement=_text(finding, "replacement"))


@prescribes("insert-activation")
def activation(finding: Finding) -> Iterator[Edit]:
    """Behind the modules of the treatment."""
    function = _text(finding, "function")
    modules = getattr(finding.treatment, "modules", ())
    if modules and function in ("relu", "gelu", "tanh"):
        yield ActivateBetween(modules=tuple(modules), function=function)


@prescribes("unregistered-modules")
def registered(finding: Finding) -> Iterator[Edit]:
    """nn.ModuleList."""
    yield RegisterModules()


@prescribes("reinitialise", "zero-init", "symmetric-init", "large-init")
def initialisation(finding: Finding) -> Iterator[Edit]:
    """Kaiming's; where vectors are among the tensors, small normal numbers."""
    yield InitialiseRandomly()
    yield InitialiseRandomly(call="normal_", arguments="std=0.02")


@prescribes("excess-dropout")
def dropout(finding: Finding) -> Iterator[Edit]:
    """A usual share."""
    value = chosen(finding, "p", "value") or 0.1
    yield from both(ReplaceArgument(call=_DROPOUTS[:5], keyword="p", value=value, position=0, add=False))
    yield from both(ReplaceArgument(call=_DROPOUTS[5:], keyword="p", value=value, position=1, add=False))
    yield from both(ReplaceArgument(keyword="dropout", value=value, add=False))
    yield ReplaceArgument(call=_DROPOUTS[:5], keyword="p", value=value, position=0, add=False, anywhere=True)


@prescribes("wrong-dim")
def dimension(finding: Finding) -> Iterator[Edit]:
    """That of the treatment, else the last."""
    value = int(chosen(finding, "dim", "value", "axis") or -1)
    for names, position in ((_SOFTMAX[:2], 1), (_SOFTMAX[2:4], 0), (("normalize",), 2)):
        yield ReplaceArgument(call=names, keyword="dim", value=value, position=position)
    yield ReplaceArgument(call=_SOFTMAX, keyword="dim", value=value, anywhere=True, add=False)


@prescribes("align-target")
def aligned(finding: Finding) -> Iterator[Edit]:
    """The prediction, else the target."""
    yield SqueezeOperand(operand=0)
    yield SqueezeOperand(operand=1)


@prescribes("non-differentiable-loss", "detached-graph")
def in_graph(finding: Finding) -> Iterator[Edit]:
    """Nothing that ends the graph."""
    yield StayInGraph()
    yield StayInGraph(upstream=True)


@prescribes("shuffle-data")
def shuffled(finding: Finding) -> Iterator[Edit]:
    """shuffle=True."""
    yield from both(ReplaceArgument(call=("DataLoader",), keyword="shuffle", value=True, position=2))


@prescribes("evaluate-in-eval-mode", "missing-eval-mode")
def eval_mode(finding: Finding) -> Iterator[Edit]:
    """model.eval() and, where gradients are on, no_grad."""
    yield EnterEvalMode()


@prescribes("missing-no-grad")
def no_grad(finding: Finding) -> Iterator[Edit]:
    """torch.no_grad()."""
    yield EnterEvalMode(mode=False)


@prescribes("missing-train-mode")
def train_mode(finding: Finding) -> Iterator[Edit]:
    """model.train()."""
    yield EnterTrainMode()
