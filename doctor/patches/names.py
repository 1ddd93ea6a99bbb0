"""What the user's names stand for: optimizers, losses, models."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from doctor.patches.source import CannotEdit, Site, Source, called, dotted, last_name
from doctor.patches.values import assigned

OPTIMIZERS = frozenset(
    {
        "Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop", "LBFGS",
        "SparseAdam", "Adafactor", "Muon",
    }
)  # fmt: skip
_NO_OPTIMIZERS = ("sched", "scaler", "writer", "prof", "accelerator", "env", "logger")


def steps(source: Source, optimizer: str = "") -> Iterator[tuple[cst.Call, str]]:
    """Calls that step an optimizer (`opt.step()`, `scaler.step(opt)`), and its name."""
    for call in source.nodes(cst.Call):
        if called(call) != "step" or not isinstance(call.func, cst.Attribute):
            continue
        owner = dotted(call.func.value)
        if "scaler" in owner.lower() and len(call.args) == 1:
            owner = dotted(call.args[0].value)
        if owner and is_optimizer(source, owner) and optimizer in ("", owner):
            yield call, owner


def is_optimizer(source: Source, name: str) -> bool:
    """Whether a name is one of an optimizer, by what it is assigned or by how it is called."""
    values = [value for _, value in assigned(source, name)]
    makers = [called(value) for value in values if isinstance(value, cst.Call)]
    if makers:
        return any(maker in OPTIMIZERS or "optim" in maker.lower() for maker in makers)
    low = name.lower()
    return not any(word in low for word in _NO_OPTIMIZERS)


def optimizer_near(site: Site, node: cst.CSTNode) -> str:
    """The name of the optimizer that belongs to a backward: of the next step in its function, else the only one."""
    source = site.source
    function = source.function(node)
    line = source.span(node)[0]
    here = [(call, name) for call, name in steps(source) if source.function(call) is function]
    behind = [name for call, name in here if source.span(call)[0] >= line]
    if behind or here:
        return (behind or [name for _, name in here])[0]
    names = dict.fromkeys(_cleared(source, function))
    names = names or dict.fromkeys(_made(source, function))
    if not names and function is not None:
        names = dict.fromkeys(p.name.value for p in function.params.params if p.name.value.lower().startswith("opt"))
    names = names or dict.fromkeys(_made(source, None))
    if len(names) != 1:
        raise CannotEdit("the optimizer's name is not known there")
    return next(iter(names))


def _cleared(source: Source, function: cst.FunctionDef | None) -> Iterator[str]:
    for call in source.nodes(cst.Call):
        if called(call) == "zero_grad" and isinstance(call.func, cst.Attribute) and source.function(call) is function:
            name = dotted(call.func.value)
            values = [called(value) for _, value in assigned(source, name) if isinstance(value, cst.Call)]
            if name and ("opt" in name.lower() or any(value in OPTIMIZERS for value in values)):
                yield name


def _made(source: Source, function: cst.FunctionDef | None) -> Iterator[str]:
    for node in source.nodes(cst.Assign):
        if isinstance(node.value, cst.Call) and source.function(node) is function:
            maker = called(node.value)
            if maker in OPTIMIZERS or ("optim" in maker.lower() and "sched" not in maker.lower()):
                yield from (dotted(target.target) for target in node.targets if dotted(target.target))


def optimizer_calls(site: Site) -> list[cst.Call]:
    """Calls on the line that make an optimizer, else the only ones of the file."""
    here = [call for call in site.source.at(site.line, cst.Call) if _makes_optimizer(site.source, call)]
    everywhere = [call for call in site.source.nodes(cst.Call) if called(call) in OPTIMIZERS]
    return here or (everywhere if len(everywhere) == 1 else [])


def _makes_optimizer(source: Source, call: cst.Call) -> bool:
    if called(call) in OPTIMIZERS:
        return True
    given = call.args[0].value if call.args else None
    makes = last_name(call.func)[:1].isupper() or "optim" in called(call).lower()
    return makes and given is not None and any(called(inner) == "parameters" for inner in source.nodes(cst.Call, given))


def backward_calls(site: Site) -> list[cst.Call]:
    """Calls of backward on the line."""
    return [call for call in site.source.at(site.line, cst.Call) if called(call) in ("backward", "manual_backward")]


def model_of(site: Site, call: cst.Call) -> str:
    """The name of the model that an optimizer is made over (`model` of `Adam(model.encoder.parameters())`)."""
    names = {
        dotted(inner.func.value)
        for arg in call.args[:1]
        for inner in site.source.nodes(cst.Call, arg.value)
        if isinstance(inner.func, cst.Attribute) and inner.func.attr.value in ("parameters", "named_parameters")
    }
    if not names or "" in names:
        raise CannotEdit("the model's name is not known there")
    roots = {name.partition(".")[0] for name in names}
    if len(roots) != 1:
        raise CannotEdit("the optimizer is made over several models")
    root = roots.pop()
    if root == "self":
        lightning = all(name.count(".") < 2 for name in names)
        deeper = {name.split(".")[1] for name in names if "." in name}
        return "self" if lightning or len(deeper) != 1 else f"self.{deeper.pop()}"
    return root
