"""The training loop: gradients, backward, steps."""

from __future__ import annotations

import libcst as cst

from doctor.patches.edits.loop import CallBackward, CallStep, ClearGradients, ClipGradients, DivideLoss, OptimizeModel
from doctor.patches.names import OPTIMIZERS, backward_calls, model_of, optimizer_calls, optimizer_near, steps
from doctor.patches.source import CannotEdit, Site, argument, called, dotted, expression, operand
from doctor.patches.surgery import performs
from doctor.patches.values import assigned


@performs(ClearGradients)
def clear_gradients(edit: ClearGradients, site: Site) -> None:
    """Before the first backward of the step's block; after the step where backward stands deeper than it."""
    source = site.source
    backward = _backward(site)
    name = optimizer_near(site, backward)
    taken = [call for call, _ in steps(source, name) if source.function(call) is source.function(backward)]
    if not taken:
        raise CannotEdit(f"{name}.step() is not in the same function")
    line = source.span(backward)[0]
    step = next((call for call in taken if source.span(call)[0] >= line), taken[-1])
    _, block = source.in_block(step)
    here, own = source.in_block(backward)
    if own is not block:
        site.insert(f"{name}.zero_grad()", step, after=True)
        return
    body = list(block.body)  # type: ignore[attr-defined]
    position = body.index(here)
    earlier = body[:position]
    start = max((i + 1 for i, one in enumerate(earlier) if _has(site, one, "step", name)), default=0)
    first = next((one for one in body[start : position + 1] if _has(site, one, "backward", "")), here)
    site.insert(f"{name}.zero_grad()", first)


def _has(site: Site, node: cst.CSTNode, function: str, owner: str) -> bool:
    return any(
        called(call) == function and (not owner or owner in site.source.code(call))
        for call in site.source.nodes(cst.Call, node)
    )


def _backward(site: Site) -> cst.Call:
    found = backward_calls(site)
    if not found:
        raise CannotEdit(f"backward is not called on line {site.line}")
    return found[0]


@performs(CallStep)
def call_step(edit: CallStep, site: Site) -> None:
    """Behind backward, in its block."""
    backward = _backward(site)
    site.insert(f"{optimizer_near(site, backward)}.step()", backward, after=True)


@performs(CallBackward)
def call_backward(edit: CallBackward, site: Site) -> None:
    """Before the step, from the last loss that its block computes."""
    source = site.source
    here = {id(call) for call in source.at(site.line, cst.Call)}
    step = next((call for call, _ in steps(source) if id(call) in here), None)
    if step is None:
        raise CannotEdit(f"no optimizer is stepped on line {site.line}")
    statement, block = source.in_block(step)
    body = list(block.body)  # type: ignore[attr-defined]
    names = [
        target
        for one in body[: body.index(statement)]
        for node in source.nodes(cst.Assign, one)
        for target in _targets(node)
        if "loss" in target.lower() or target.lower() in ("cost", "nll", "mse", "error", "err", "objective", "l")
    ]
    if not names:
        raise CannotEdit("no loss is computed before the step")
    site.insert(f"{names[-1]}.backward()", step)


def _targets(node: cst.Assign) -> list[str]:
    found = []
    for target in node.targets:
        inner = target.target
        parts = [element.value for element in inner.elements] if isinstance(inner, cst.Tuple) else [inner]
        found += [dotted(part) for part in parts if dotted(part)]
    return found


@performs(ClipGradients)
def clip_gradients(edit: ClipGradients, site: Site) -> None:
    """Before the only step of the file whose optimizer's model has a name."""
    source = site.source
    if any(called(call).startswith("clip_grad") for call in source.nodes(cst.Call)):
        raise CannotEdit("gradients are clipped already")
    found = list(steps(source))
    if len(found) != 1:
        raise CannotEdit("the optimizer's step is not known")
    step, name = found[0]
    makers = [
        value for _, value in assigned(source, name) if isinstance(value, cst.Call) and called(value) in OPTIMIZERS
    ]
    if makers:
        model = f"{model_of(site, makers[0])}.parameters()"
    else:
        model = f'[p for group in {name}.param_groups for p in group["params"]]'
    if "scaler" in source.code(step).lower():
        raise CannotEdit("gradients are scaled there; unscale them before clipping")
    clip = source.spelt("torch.nn.utils.clip_grad_norm_")
    site.insert(f"{clip}({model}, {edit.max_norm!r})", step)


@performs(DivideLoss)
def divide_loss(edit: DivideLoss, site: Site) -> None:
    """By what the step's condition takes the remainder of."""
    source = site.source
    backward = _backward(site)
    counts = {
        source.code(node.right): node.right
        for loop in source.above(backward)
        if isinstance(loop, cst.For | cst.While)
        for condition in source.nodes(cst.If, loop)
        if any(called(call) == "step" for call in source.nodes(cst.Call, condition.body))
        for node in source.nodes(cst.BinaryOperation, condition.test)
        if isinstance(node.operator, cst.Modulo)
    }
    if len(counts) != 1:
        raise CannotEdit("the number of accumulated batches is not known")
    count = next(iter(counts.values()))
    loss = _loss(backward)
    divided = cst.BinaryOperation(
        left=operand(loss),
        operator=cst.Divide(),
        right=operand(count) if not isinstance(count, cst.Integer) else count,
    )
    if isinstance(backward.func, cst.Attribute) and loss is backward.func.value:
        divided = divided.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    site.replace(loss, divided)


def _loss(backward: cst.Call) -> cst.BaseExpression:
    """What backward is called on: `loss.backward()`, `scaler.scale(loss).backward()`, `fabric.backward(loss)`."""
    if (
        backward.args
        and argument(backward, "gradient", None) is None
        and argument(backward, "retain_graph", None) is None
    ):
        return backward.args[0].value
    assert isinstance(backward.func, cst.Attribute)
    value = backward.func.value
    if isinstance(value, cst.Call) and called(value) == "scale" and len(value.args) == 1:
        return value.args[0].value
    return value


@performs(OptimizeModel)
def optimize_model(edit: OptimizeModel, site: Site) -> None:
    """In place of the first argument."""
    calls = optimizer_calls(site)
    if not calls or not calls[0].args:
        raise CannotEdit(f"no optimizer is made on line {site.line}")
    call = calls[0]
    given = argument(call, "params", 0)
    if given is None or any(True for _ in site.source.nodes(cst.Dict, given.value)):
        raise CannotEdit("the optimizer is made over groups")
    value = given.value
    if isinstance(value, cst.Name):
        values = [value for _, value in assigned(site.source, value.value)]
        if len(values) != 1:
            raise CannotEdit(f"{value.value} is assigned at {len(values)} places")
        value = values[0]
    model = model_of(site, call.with_changes(args=[cst.Arg(value)]))
    site.replace(value, expression(f"{model}.parameters()"))
