"""Functions that are left out or replaced, and operands that change their shape."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from doctor.patches.edits.expressions import RemoveCall, RenameCall, SqueezeOperand, StayInGraph
from doctor.patches.source import CannotEdit, Site, Source, argument, called, dotted, expression, with_method
from doctor.patches.surgery import performs
from doctor.patches.surgery.layers import element_of, take_out
from doctor.patches.values import assigned

_LOSSES = ("loss", "crit", "mse", "mae", "l1", "huber", "objective", "cost")
_CUTTING_METHODS = ("detach", "item", "numpy", "round", "floor", "ceil", "tolist")
_CUTTING_FUNCTIONS = ("torch.tensor", "torch.as_tensor", "float", "torch.round", "torch.floor", "torch.FloatTensor")


@performs(RemoveCall)
def remove_call(edit: RemoveCall, site: Site) -> None:
    """On the line, else where the module is made."""
    source = site.source
    for call in source.at(site.line, cst.Call):
        if _computes(source, call, edit.function, edit.module) and _input(call, edit.function) is not None:
            _leave_out(site, call, edit.function)
            return
    makers = [
        (place, call)
        for place in site.project.near(source)
        for call in place.nodes(cst.Call)
        if called(call).lower() == edit.function.replace("_", "") and called(call)[:1].isupper()
    ]
    makers = [found for found in makers if _belongs(*found, edit.module)] if len(makers) > 1 else makers
    if len(makers) != 1:
        raise CannotEdit(f"{edit.function} stands at {len(makers) or 'no'} places")
    place, call = makers[0]
    element = element_of(place, call)
    if element is not None:
        take_out(site, place, element)
        return
    above = place.parent(call)
    if isinstance(above, cst.Arg) and called(place.parent(above)) == "append":  # type: ignore[arg-type]
        statement, _ = place.in_block(call)
        site.remove(statement, place)
        return
    site.replace(call, expression(f"{place.spelt('torch.nn.Identity')}()"), place)


def _computes(source: Source, call: cst.Call, function: str, module: str) -> bool:
    """Whether a call computes this function: by its own name, or as a module that an attribute or a name holds."""
    name = called(call)
    if name in (function, f"{function}_"):
        return True
    if isinstance(call.func, cst.Call):  # nn.Softmax(dim=1)(x)
        return called(call.func).lower() == function.replace("_", "")
    if module and name == module.rpartition(".")[2]:
        return True
    held = [value for _, value in assigned(source, dotted(call.func)) if isinstance(value, cst.Call)]
    return bool(held) and all(called(value).lower() == function.replace("_", "") for value in held)


def _input(call: cst.Call, function: str) -> cst.BaseExpression | None:
    given = argument(call, "input", 0)
    if isinstance(call.func, cst.Attribute) and call.func.attr.value.rstrip("_") == function:
        base = dotted(call.func.value)
        if base not in ("torch", "F", "nn.functional", "functional", "torch.nn.functional", "self", "special"):
            return call.func.value  # x.softmax(1)
    return given.value if given is not None else None


def _leave_out(site: Site, call: cst.Call, function: str) -> None:
    value = _input(call, function)
    assert value is not None
    statement = site.source.statement(call)
    smalls = statement.body if isinstance(statement, cst.SimpleStatementLine) else ()
    for small in smalls:
        if isinstance(small, cst.Assign) and small.value is call and len(small.targets) == 1:
            name = dotted(small.targets[0].target)
            if name and name == dotted(value):  # x = softmax(x)
                site.remove(small if len(smalls) > 1 else statement)
                return
    above = site.source.parent(call)
    bare = isinstance(above, cst.Arg | cst.Assign | cst.Return | cst.AnnAssign) or _plain(value)
    if not bare and not value.lpar:
        site.replace(call, value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()]))
    else:
        site.replace(call, value)


def _plain(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript)


def _belongs(source: Source, call: cst.Call, module: str) -> bool:
    """Whether a module made here may be the one at this path: an element of the attribute that the path begins with."""
    if not module:
        return False
    parts = module.split(".")
    names = {part for part in parts if not part.isdigit()}
    for up in source.above(call):
        if isinstance(up, cst.Assign):
            targets = {dotted(target.target).rpartition(".")[2] for target in up.targets}
            if not targets & (names or targets):
                return False
            element = element_of(source, call)
            outer = source.parent(element) if element is not None else None
            if parts[-1].isdigit() and outer is not None:
                elements = list(outer.args if isinstance(outer, cst.Call) else outer.elements)  # type: ignore[attr-defined]
                return elements.index(element) == int(parts[-1])
            return True
    return False


@performs(RenameCall)
def rename_call(edit: RenameCall, site: Site) -> None:
    """Everywhere in the file, but for outputs."""
    source = site.source
    function, new = edit.function.replace("_", ""), edit.replacement
    kinds = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "gelu": "GELU", "tanh": "Tanh", "elu": "ELU", "silu": "SiLU"}
    for call in source.nodes(cst.Call):
        name = called(call)
        if name.lower() != function or _is_output(source, call):
            continue
        if name[:1].isupper():
            site.replace(call, expression(f"{source.spelt(f'torch.nn.{kinds.get(new, new.title())}')}()"))
            continue
        value = _input(call, edit.function)
        if value is None or any(
            True for one in source.nodes(cst.Call, value) if one is not call and called(one) == name
        ):
            continue
        whole = source.spelt(f"torch.{new}" if new in ("relu", "tanh") else f"torch.nn.functional.{new}")
        site.replace(call, cst.Call(func=expression(whole), args=[cst.Arg(value)]))
    if not site.changes:
        raise CannotEdit(f"{edit.function} is not computed in {source.path.name}")


def _is_output(source: Source, call: cst.Call) -> bool:
    if isinstance(source.parent(call), cst.Return):
        return True
    element = element_of(source, call)
    outer = source.parent(element) if element is not None else None
    siblings = list(outer.args if isinstance(outer, cst.Call) else getattr(outer, "elements", ()))
    return bool(siblings) and siblings[-1] is element


@performs(SqueezeOperand)
def squeeze_operand(edit: SqueezeOperand, site: Site) -> None:
    """Of the loss on the line, else of the difference."""
    source = site.source
    for call in source.at(site.line, cst.Call):
        name = called(call) or (called(call.func) if isinstance(call.func, cst.Call) else "")
        if any(word in name.lower() for word in _LOSSES):
            given = argument(call, ("input", "target")[edit.operand], edit.operand)
            if given is not None and argument(call, "target", 1) is not None:
                _squeeze(site, given.value)
                return
    for node in source.at(site.line, cst.BinaryOperation):
        if isinstance(node.operator, cst.Subtract):
            _squeeze(site, (node.left, node.right)[edit.operand])
            return
    raise CannotEdit(f"no loss of two operands on line {site.line}")


def _squeeze(site: Site, node: cst.BaseExpression) -> None:
    site.replace(node, lambda updated: with_method(updated, "squeeze(1)"))


@performs(StayInGraph)
def stay_in_graph(edit: StayInGraph, site: Site) -> None:
    """All that the line has of it, and all that the assignments have which it takes its values from."""
    source = site.source
    statements: list[cst.CSTNode] = [source.statement(node) for node in source.at(site.line, cst.BaseExpression)[:1]]  # type: ignore[type-abstract]
    if edit.upstream:
        statements += [before for one in statements for before in _taken_from(source, one)]
    for statement in statements:
        for node in _cuts(source, statement):
            site.replace(node, _without_cut)
    if not site.changes:
        raise CannotEdit(f"nothing on line {site.line} of {source.path.name} can be taken away")


def _taken_from(source: Source, statement: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The last assignments before a statement, in its function, to the names that it reads."""
    line, function = source.span(statement)[0], source.function(statement)
    for name in {node.value for node in source.nodes(cst.Name, statement)}:
        before = [
            node
            for node, _ in assigned(source, name)
            if source.function(node) is function and source.span(node)[0] < line
        ]
        if before:
            yield before[-1]


def _cuts(source: Source, statement: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for call in source.nodes(cst.Call, statement):
        whole = dotted(call.func)
        if whole in _CUTTING_FUNCTIONS:
            if call.args:
                yield call
        elif isinstance(call.func, cst.Attribute) and not call.args and called(call) in _CUTTING_METHODS:
            yield call
    for attribute in source.nodes(cst.Attribute, statement):
        if attribute.attr.value == "data":
            yield attribute


def _without_cut(node: cst.CSTNode) -> cst.CSTNode:
    if isinstance(node, cst.Attribute):
        return node.value
    assert isinstance(node, cst.Call)
    if node.args:
        value = node.args[0].value
        if isinstance(value, cst.List) and len(value.elements) == 1:
            value = value.elements[0].value
        return value
    assert isinstance(node.func, cst.Attribute)
    return node.func.value
