"""Where the value of an expression stands in the source."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from doctor.patches.source import CannotEdit, Project, Source, argument, called, constant, dotted, last_name

Place = tuple[Source, cst.BaseExpression]
_DEPTH = 6


def origin(project: Project, source: Source, node: cst.BaseExpression, depth: int = 0) -> Place:
    """The constant that an expression stands for; raises CannotEdit where there is none, or more than one."""
    if constant(node):
        return source, node
    if depth > _DEPTH:
        raise CannotEdit("the value comes from too far away")
    if isinstance(node, cst.Call) and called(node) in ("float", "int", "bool") and len(node.args) == 1:
        return origin(project, source, node.args[0].value, depth + 1)
    if isinstance(node, cst.Name):
        places = list(_of_name(project, source, node))
    elif isinstance(node, cst.Attribute):
        places = list(_of_attribute(project, source, dotted(node.value), node.attr.value))
    elif isinstance(node, cst.Subscript) and len(node.slice) == 1:
        places = list(_of_key(source, dotted(node.value), node.slice[0].slice))
    else:
        places = []
    if len(places) != 1:
        raise CannotEdit(f"the value of {source.code(node)} stands at {len(places) or 'no'} known places")
    return origin(project, *places[0], depth + 1)


def assigned(
    source: Source, name: str, under: cst.CSTNode | None = None
) -> list[tuple[cst.CSTNode, cst.BaseExpression]]:
    """The assignments to a (dotted) name, with the statement's node and the value."""
    found: list[tuple[cst.CSTNode, cst.BaseExpression]] = []
    for node in source.walk(under):
        if isinstance(node, cst.Assign):
            for target in node.targets:
                if dotted(target.target) == name:
                    found.append((node, node.value))
                elif isinstance(target.target, cst.Tuple) and isinstance(node.value, cst.Tuple):
                    pairs = zip(target.target.elements, node.value.elements, strict=False)
                    found += [(node, right.value) for left, right in pairs if dotted(left.value) == name]
        elif isinstance(node, cst.AnnAssign | cst.NamedExpr) and node.value is not None and dotted(node.target) == name:
            found.append((node, node.value))
    return found


def _of_name(project: Project, source: Source, node: cst.Name) -> Iterator[Place]:
    function = source.function(node)
    while function is not None:
        inside = [
            value for where, value in assigned(source, node.value, function) if source.function(where) is function
        ]
        if inside:
            yield from ((source, value) for value in inside if value is not node)
            return
        if _parameter(function, node.value) is not None:
            yield from _of_parameter(project, source, function, node.value)
            return
        function = source.function(function)
    top = [value for where, value in assigned(source, node.value) if source.function(where) is None]
    if top:
        yield from ((source, value) for value in top if value is not node)
        return
    imported = project.imported(source, node.value)
    if imported is not None:
        other, name = imported
        yield from ((other, value) for where, value in assigned(other, name) if other.function(where) is None)


def _parameter(function: cst.FunctionDef, name: str) -> cst.Param | None:
    given = function.params
    for param in (*given.posonly_params, *given.params, *given.kwonly_params):
        if param.name.value == name:
            return param
    return None


def _of_parameter(project: Project, source: Source, function: cst.FunctionDef, name: str) -> Iterator[Place]:
    """What callers give for a parameter; its default where none gives anything."""
    names = [param.name.value for param in (*function.params.posonly_params, *function.params.params)]
    owner = source.class_(function)
    wanted = owner.name.value if owner is not None and function.name.value == "__init__" else function.name.value
    skip = 1 if owner is not None and names[:1] in (["self"], ["cls"]) else 0
    position = names.index(name) - skip if name in names else None
    given = [
        (place, arg.value)
        for place in project.near(source)
        for call in place.nodes(cst.Call)
        if called(call) == wanted and (arg := argument(call, name, position)) is not None
    ]
    if given:
        yield from given
        return
    param = _parameter(function, name)
    if param is not None and param.default is not None:
        yield source, param.default


def _of_attribute(project: Project, source: Source, base: str, name: str) -> Iterator[Place]:
    for place in project.near(source):
        found = list(_attributes(project, place, base, name))
        if found:
            yield from found
            return


def _attributes(project: Project, source: Source, base: str, name: str) -> Iterator[Place]:
    makers = {called(value) for _, value in assigned(source, base) if isinstance(value, cst.Call)}
    for _, value in assigned(source, base):
        if isinstance(value, cst.Call) and (arg := argument(value, name, None)) is not None:
            yield source, arg.value
            return
    defaults = [call for call in source.nodes(cst.Call) if called(call) == "add_argument" and _option(call) == name]
    if defaults and not base.startswith("self"):
        yield from ((source, arg.value) for call in defaults if (arg := argument(call, "default", None)) is not None)
        return
    if base == "self" or base.endswith("hparams"):
        yield from ((source, value) for _, value in assigned(source, f"self.{name}"))
        if base.endswith("hparams"):
            starts = [f for f in source.nodes(cst.FunctionDef) if f.name.value == "__init__" and _parameter(f, name)]
            for function in starts:
                yield from _of_parameter(project, source, function, name)
            return
    for class_ in source.nodes(cst.ClassDef):
        if makers and base not in ("self", class_.name.value) and class_.name.value not in makers:
            continue
        own = [value for where, value in assigned(source, name, class_) if source.function(where) is None]
        yield from ((source, value) for value in own)


def _option(call: cst.Call) -> str:
    """The attribute under which argparse keeps an option."""
    target = argument(call, "dest", None)
    if target is not None and isinstance(target.value, cst.SimpleString):
        return str(target.value.evaluated_value)
    texts = [
        arg.value.evaluated_value for arg in call.args if not arg.keyword and isinstance(arg.value, cst.SimpleString)
    ]
    long = [str(text) for text in texts if str(text).startswith("--")] or [str(text) for text in texts]
    return long[0].lstrip("-").replace("-", "_") if long else ""


def _of_key(source: Source, base: str, index: cst.BaseSlice) -> Iterator[Place]:
    if not (isinstance(index, cst.Index) and isinstance(index.value, cst.SimpleString)):
        return
    key = index.value.evaluated_value
    values = [value for _, value in assigned(source, base)] or list(source.nodes(cst.Dict))
    for value in values:
        for entry in source.nodes(cst.DictElement, value):
            if isinstance(entry.key, cst.SimpleString) and entry.key.evaluated_value == key:
                yield source, entry.value
        if isinstance(value, cst.Call) and last_name(value.func) == "dict":
            arg = argument(value, str(key), None)
            if arg is not None:
                yield source, arg.value
