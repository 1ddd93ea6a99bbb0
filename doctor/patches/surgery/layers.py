"""The model: activations, containers, initialisation."""

from __future__ import annotations

import libcst as cst

from doctor.patches.edits.layers import ActivateBetween, InitialiseRandomly, RegisterModules
from doctor.patches.source import CannotEdit, Site, Source, argument, called, dotted, expression
from doctor.patches.surgery import performs
from doctor.patches.values import assigned

_CONSTANT = ("zeros_", "ones_", "constant_", "normal_", "uniform_", "fill_", "zero_", "trunc_normal_", "eye_")
_KINDS = {"relu": "ReLU", "gelu": "GELU", "tanh": "Tanh"}


def element_of(source: Source, node: cst.CSTNode) -> cst.Arg | cst.Element | None:
    """The element of a Sequential, list or ModuleList that a node is (or that names it, in an OrderedDict)."""
    above = source.parent(node)
    if isinstance(above, cst.Arg):
        outer = source.parent(above)
        if isinstance(outer, cst.Call) and called(outer) == "Sequential":
            return above
    if isinstance(above, cst.Element):
        outer = source.parent(above)
        if isinstance(outer, cst.Tuple):
            return element_of(source, outer)
        return above if isinstance(outer, cst.List) else None
    return None


def take_out(site: Site, source: Source, element: cst.Arg | cst.Element) -> None:
    """Remove an element; when it is the last, the one before ends as it did."""
    outer = source.parent(element)
    siblings: list[cst.Arg | cst.Element] = list(getattr(outer, "args", ()) or getattr(outer, "elements", ()))
    site.remove(element, source)
    place = siblings.index(element)
    if place == 0 or element is not siblings[-1]:
        return
    site.replace(siblings[place - 1], lambda updated: _ending_as(updated, element), source)


def _ending_as(node: cst.Arg | cst.Element, last: cst.Arg | cst.Element) -> cst.Arg | cst.Element:
    if isinstance(last.comma, cst.Comma) and isinstance(node.comma, cst.Comma):
        own, end = node.comma.whitespace_after, last.comma.whitespace_after
        if isinstance(own, cst.ParenthesizedWhitespace) and isinstance(end, cst.ParenthesizedWhitespace):
            end = own.with_changes(indent=end.indent, last_line=end.last_line, empty_lines=end.empty_lines)
        return node.with_changes(comma=last.comma.with_changes(whitespace_after=end))
    if isinstance(node, cst.Arg) and isinstance(last, cst.Arg):
        return node.with_changes(comma=cst.MaybeSentinel.DEFAULT, whitespace_after_arg=last.whitespace_after_arg)
    return node.with_changes(comma=cst.MaybeSentinel.DEFAULT)


@performs(ActivateBetween)
def activate_between(edit: ActivateBetween, site: Site) -> None:
    """Behind each module: as the next element of its Sequential, or around its call."""
    for path in edit.modules:
        if not (_into_sequential(edit, site, path) or _around_call(edit, site, path)):
            raise CannotEdit(f"the layer {path} is not found in {site.source.path.name}")


def _into_sequential(edit: ActivateBetween, site: Site, path: str) -> bool:
    parent, _, name = path.rpartition(".")
    if not name.isdigit():
        return False
    wanted = parent.rpartition(".")[2]
    fitting = []
    for source in site.project.near(site.source):
        for call in source.nodes(cst.Call):
            if called(call) != "Sequential" or len(call.args) <= int(name) + 1:
                continue
            if not any(arg.star or arg.keyword for arg in call.args[: int(name) + 2]):
                fitting.append((source, call, _holder(source, call)))
    chosen = [found for found in fitting if wanted and found[2] == wanted] or fitting
    if len(chosen) > 1:
        on_line = [f for f in chosen if f[0] is site.source and f[0].span(f[1])[0] <= site.line <= f[0].span(f[1])[1]]
        chosen = on_line or chosen
    if len(chosen) != 1:
        return False
    source, call, _ = chosen[0]
    arg = call.args[int(name)]
    new = cst.Arg(expression(f"{source.spelt(f'torch.nn.{_KINDS[edit.function]}')}()"), comma=arg.comma)
    site.of(source).after.setdefault(arg, []).append(new)
    return True


def _holder(source: Source, call: cst.Call) -> str:
    """The last name of what a Sequential is assigned to."""
    above = source.parent(call)
    return dotted(above.targets[0].target).rpartition(".")[2] if isinstance(above, cst.Assign) else ""


def _around_call(edit: ActivateBetween, site: Site, path: str) -> bool:
    source = site.source
    name = path.rpartition(".")[2]
    calls = [
        call
        for call in source.nodes(cst.Call)
        if dotted(call.func) == f"self.{name}"
        and (function := source.function(call)) is not None
        and _same_class(site, function)
    ]
    if len(calls) != 1:
        return False
    try:
        whole = source.spelt(f"torch.nn.functional.{edit.function}")
    except CannotEdit:
        whole = source.spelt(f"torch.{edit.function}")
    if not whole.startswith(("F.", "nn.", "functional.")) and edit.function in ("relu", "tanh"):
        whole = source.spelt(f"torch.{edit.function}")
    site.replace(calls[0], lambda updated: cst.Call(func=expression(whole), args=[cst.Arg(updated)]))
    return True


def _same_class(site: Site, function: cst.FunctionDef) -> bool:
    """Whether a method is of the class whose line the finding names, if that is in a class at all."""
    holding = [c for c in site.source.nodes(cst.ClassDef) if _holds(site, c)]
    return not holding or site.source.class_(function) in holding


def _holds(site: Site, node: cst.CSTNode) -> bool:
    first, last = site.source.span(node)
    return first <= site.line <= last


@performs(RegisterModules)
def register_modules(edit: RegisterModules, site: Site) -> None:
    """Where the attribute is assigned that holds the layers."""
    source = site.source
    for node in source.at(site.line, cst.Assign):
        if _register(site, node):
            return
    # Layers that are appended: the empty list that an attribute holds, or the attribute that takes the list over.
    for call in source.at(site.line, cst.Call):
        if called(call) in ("append", "extend") and isinstance(call.func, cst.Attribute):
            name = dotted(call.func.value)
            function = source.function(call)
            holders = [node for node, _ in assigned(source, name, function) if isinstance(node, cst.Assign)]
            takers = [
                node
                for node in source.nodes(cst.Assign, function)
                if dotted(node.value) == name and dotted(node.targets[0].target).startswith("self.")
            ]
            for node in holders if name.startswith("self.") else takers:
                if _register(site, node):
                    return
    raise CannotEdit(f"no list of layers on line {site.line}")


def _register(site: Site, node: cst.Assign) -> bool:
    source, value = site.source, node.value
    if not dotted(node.targets[0].target).startswith("self."):
        return False
    if isinstance(value, cst.List | cst.ListComp | cst.Tuple | cst.Name):
        kind = "torch.nn.ModuleList"
    elif isinstance(value, cst.Dict | cst.DictComp):
        kind = "torch.nn.ModuleDict"
    elif isinstance(value, cst.Call) and argument(value, "requires_grad", None) is not None:
        kind = "torch.nn.Parameter"
    else:
        return False
    empty = isinstance(value, cst.List) and not value.elements
    whole = expression(source.spelt(kind))

    def held(updated: cst.BaseExpression) -> cst.BaseExpression:
        if isinstance(updated, cst.Call):
            kept = [arg for arg in updated.args if arg.keyword is None or arg.keyword.value != "requires_grad"]
            last = kept[-1].with_changes(comma=updated.args[-1].comma) if kept else None
            updated = updated.with_changes(args=[*kept[:-1], *([last] if last else [])])
        return cst.Call(func=whole, args=[] if empty else [cst.Arg(updated)])

    site.replace(value, held)
    return True


@performs(InitialiseRandomly)
def initialise_randomly(edit: InitialiseRandomly, site: Site) -> None:
    """In place of the constant initialisation on the line."""
    source = site.source
    found = [call for call in source.at(site.line, cst.Call) if called(call) in _CONSTANT]
    found = [call for call in found if "bias" not in source.code(call)] or found
    if not found:
        _random_parameter(site)
        return
    call = found[0]
    base = call.func.value if isinstance(call.func, cst.Attribute) else None
    tensor: cst.BaseExpression | None = None
    if base is not None and not dotted(base).endswith("init") and called(call) not in ("constant_", "zeros_", "ones_"):
        tensor = base.value if isinstance(base, cst.Attribute) and base.attr.value == "data" else base
    elif (given := argument(call, "tensor", 0)) is not None:
        tensor = given.value
        if isinstance(tensor, cst.Attribute) and tensor.attr.value == "data":
            tensor = tensor.value
    if tensor is None:
        raise CannotEdit(f"the initialisation on line {site.line} is not known")
    more = f", {edit.arguments}" if edit.arguments else ""
    whole = source.spelt(f"torch.nn.init.{edit.call}")
    site.replace(call, expression(f"{whole}({source.code(tensor)}{more})"))


def _random_parameter(site: Site) -> None:
    """`nn.Parameter(torch.zeros(a, b))`."""
    source = site.source
    for call in source.at(site.line, cst.Call):
        if called(call) in ("zeros", "ones", "full", "empty") and dotted(call.func).startswith("torch."):
            sizes = [arg for arg in call.args if arg.keyword is None]
            sizes = sizes[:1] if called(call) == "full" else sizes
            code = ", ".join(source.code(size.value) for size in sizes)
            site.replace(call, expression(f"{source.spelt('torch.randn')}({code}) * 0.02"))
            return
    raise CannotEdit(f"no constant initialisation on line {site.line}")
