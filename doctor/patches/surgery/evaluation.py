"""Modes of the model around evaluation and training."""

from __future__ import annotations

import libcst as cst

from doctor.patches.edits.evaluation import EnterEvalMode, EnterTrainMode
from doctor.patches.source import CannotEdit, Site, Source, called, dotted, last_name
from doctor.patches.surgery import performs

_NO_GRAD = ("no_grad", "inference_mode")
_TENSOR_METHODS = frozenset({"to", "item", "argmax", "sum", "mean", "float", "cpu", "max", "append", "size", "eq"})


@performs(EnterEvalMode)
def enter_eval_mode(edit: EnterEvalMode, site: Site) -> None:
    """Around the outermost statement of the evaluation: in its function, or beside the training loop."""
    source = site.source
    call, model = _forward(site)
    statement = _region(source, call)
    if edit.mode:
        site.insert(f"{model}.eval()", statement)
        if _trains_again(source, statement, model):
            if isinstance(statement, cst.SimpleStatementLine) and isinstance(statement.body[-1], cst.Return):
                _return_later(site, statement, model)
            else:
                site.insert(f"{model}.train()", statement, after=True)
    if edit.no_grad and not _without_gradients(source, call):
        function = source.function(call)
        name = f"{source.spelt('torch.no_grad')}()"
        if function is not None and not _trains(source, function):
            decorator = cst.Decorator(cst.ensure_type(cst.parse_expression(name), cst.Call))
            site.replace(function, lambda updated: updated.with_changes(decorators=[decorator, *updated.decorators]))
        elif not edit.mode:
            _wrap(site, statement, name)


def _forward(site: Site) -> tuple[cst.Call, str]:
    """The forward on the line, and the name of its model."""
    for call in site.source.at(site.line, cst.Call):
        name = dotted(call.func)
        last = last_name(call.func)
        if (
            not name
            or last in _TENSOR_METHODS
            or name in ("len", "range", "print", "zip", "sum", "list", "torch.no_grad")
        ):
            continue
        if any(word in name.lower() for word in ("model", "net", "classifier", "encoder", "module")):
            return call, name.removesuffix(".forward").removesuffix(".generate")
    for call in site.source.at(site.line, cst.Call):
        name = dotted(call.func)
        if name and call.args and (name.islower() or name.startswith("self.")) and _is_model(site.source, name):
            return call, name
    raise CannotEdit(f"the model's name on line {site.line} is not known")


def _is_model(source: Source, name: str) -> bool:
    return any(
        called(call) in ("parameters", "train", "state_dict", "zero_grad")
        and isinstance(call.func, cst.Attribute)
        and dotted(call.func.value) == name
        for call in source.nodes(cst.Call)
    )


def _trains(source: Source, node: cst.CSTNode) -> bool:
    return any(called(call) in ("backward", "manual_backward") for call in source.nodes(cst.Call, node))


def _region(source: Source, call: cst.CSTNode) -> cst.CSTNode:
    """The outermost statement around a forward that trains nothing, in the same function."""
    chosen, _ = source.in_block(call)
    for up in source.above(call):
        if isinstance(up, cst.FunctionDef | cst.ClassDef) or _trains(source, up):
            break
        if isinstance(up, cst.BaseCompoundStatement) and _only_evaluates(source, up):
            chosen = up
    return chosen


def _only_evaluates(source: Source, node: cst.BaseCompoundStatement) -> bool:
    """Not `if __name__ == ...` or a loop over epochs that calls a training function."""
    if isinstance(node, cst.If | cst.Try):
        return False
    words = [called(call).lower() for call in source.nodes(cst.Call, node)]
    return not any(word.startswith(("train", "fit", "step")) for word in words)


def _trains_again(source: Source, statement: cst.CSTNode, model: str) -> bool:
    """Whether training may go on after the statement without a call of train() of its own."""
    repeated = source.function(statement) is not None or any(
        isinstance(up, cst.For | cst.While) for up in source.above(statement)
    )
    if not repeated:
        return False
    for call in source.nodes(cst.Call):
        if called(call) == "train" and isinstance(call.func, cst.Attribute) and not call.args:
            loops = [up for up in source.above(call) if isinstance(up, cst.For | cst.While | cst.FunctionDef)]
            if loops:
                return False
    return True


def _return_later(site: Site, statement: cst.SimpleStatementLine, model: str) -> None:
    source = site.source
    given = statement.body[-1]
    assert isinstance(given, cst.Return)
    if given.value is None:
        raise CannotEdit("nothing is returned there")
    used = {name.value for name in source.nodes(cst.Name)}
    name = next(name for name in ("result", "score", "evaluated", "result_") if name not in used)
    value = given.value
    site.replace(given, cst.Assign([cst.AssignTarget(cst.Name(name))], value))
    for code in (f"{model}.train()", f"return {name}"):
        site.insert(code, statement, after=True)


def _without_gradients(source: Source, call: cst.CSTNode) -> bool:
    for up in source.above(call):
        if isinstance(up, cst.With) and any(_is_no_grad(item.item) for item in up.items):
            return True
        if isinstance(up, cst.FunctionDef) and any(_is_no_grad(one.decorator) for one in up.decorators):
            return True
    return False


def _is_no_grad(node: cst.BaseExpression) -> bool:
    return (called(node) if isinstance(node, cst.Call) else last_name(node)) in _NO_GRAD


def _wrap(site: Site, statement: cst.CSTNode, manager: str) -> None:
    """Put a statement into a `with` block."""
    config = site.source.module.config_for_parsing
    empty = cst.ensure_type(cst.parse_statement(f"with {manager}:\n    pass", config), cst.With)

    def wrapped(updated: cst.BaseStatement) -> cst.BaseStatement:
        lines = updated.leading_lines  # type: ignore[attr-defined]
        inner = updated.with_changes(leading_lines=())
        return empty.with_changes(
            leading_lines=lines,
            body=cst.IndentedBlock([inner], header=cst.TrailingWhitespace(), indent=None),
        )

    site.replace(statement, wrapped)


@performs(EnterTrainMode)
def enter_train_mode(edit: EnterTrainMode, site: Site) -> None:
    """Before the loop over batches that trains."""
    source = site.source
    loops = [node for node in source.nodes(cst.For) if _trains(source, node)]
    inner = [node for node in loops if not any(other is not node and _inside(source, other, node) for other in loops)]
    if len(inner) != 1:
        raise CannotEdit("the training loop is not known")
    names = [
        dotted(call.func.value)
        for call in source.nodes(cst.Call)
        if called(call) == "eval" and isinstance(call.func, cst.Attribute) and not call.args
    ]
    name = next((n for n in names if any(dotted(c.func) == n for c in source.nodes(cst.Call, inner[0]))), "")
    if not name:
        raise CannotEdit("the model's name in the training loop is not known")
    site.insert(f"{name}.train()", inner[0])


def _inside(source: Source, node: cst.CSTNode, outer: cst.CSTNode) -> bool:
    return any(up is outer for up in source.above(node))
