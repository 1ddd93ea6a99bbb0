"""Faults of the architecture: shapes, activations, registration, sharing, normalisation, dropout."""

from __future__ import annotations

import ast
import re

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Source, each, lines_of


@operator("shape-mismatch")
def last_layer_too_wide_inside(source: Source) -> Wound | None:
    linears = [c for c in source.calls("Linear") if len(c.args) >= 2]
    if not linears:
        return None
    owner = source.parents[linears[-1]]
    used = [f"{source.of(owner.targets[0])}("] if isinstance(owner, ast.Assign) else []
    lines = (*lines_of(linears[-1:]), *source.lines_with("forward", "return ", "model(", "net(", "self(", *used))
    return wound(source.wrap(linears[-1].args[0], "1 + ", ""), lines)


@operator("missing-activation")
def activations_removed(source: Source) -> Wound | None:
    if source.mentions(r"Conv\dd|GRU|LSTM|Transformer|normalize|LayerNorm") or not source.calls("Linear"):
        return None
    functions = [c for c in source.calls("relu", "silu", "gelu", "leaky_relu", "tanh") if len(c.args) == 1]
    modules = source.calls("ReLU", "GELU", "SiLU", "Tanh", "LeakyReLU")
    edits = each(functions, lambda c: source.replace(c.func, ""))
    edits += each(modules, lambda c: source.replace(c, "nn.Identity()"))
    return wound(edits, range(1, source.text.count("\n") + 1))


def _constructed(source: Source, kinds: str) -> list[ast.Assign]:
    """`self.x = Layer(...)` in constructors."""
    return [
        node
        for node in source.all(ast.Assign)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and source.of(node.targets[0]).startswith("self.")
        and re.search(kinds, source.of(node.value.func))
    ]


def _twins(source: Source, kinds: str) -> tuple[ast.Assign, ast.Assign] | None:
    known: dict[tuple[ast.AST, str], ast.Assign] = {}
    for node in _constructed(source, kinds):
        key = (source.scope(node), source.of(node.value))
        if key in known:
            return known[key], node
        known[key] = node
    return None


def _shared(source: Source, kinds: str) -> Wound | None:
    twins = _twins(source, kinds)
    if twins is None:
        return None
    first, second = twins
    used = source.lines_with(source.of(first.targets[0]) + "(", source.of(second.targets[0]) + "(")
    return wound([source.replace(second.value, source.of(first.targets[0]))], (first.lineno, second.lineno, *used))


@operator("shared-layer", "batchnorm-misuse")
def one_norm_for_two(source: Source) -> Wound | None:
    return _shared(source, r"BatchNorm")


@operator("shared-layer")
def one_layer_for_two(source: Source) -> Wound | None:
    return _shared(source, r"Linear|Conv|GRU|LSTM|Embedding")


@operator("shared-layer")
def list_times_n(source: Source) -> Wound | None:
    """`[Block()] * n` in place of a comprehension."""
    for call in source.calls("ModuleList", "Sequential"):
        inner = call.args[0] if call.args else None
        comprehension = inner.value if isinstance(inner, ast.Starred) else inner
        if isinstance(comprehension, ast.ListComp) and isinstance(comprehension.generators[0].iter, ast.Call):
            count = source.of(comprehension.generators[0].iter.args[0])
            text = f"[{source.of(comprehension.elt)}] * ({count})"
            return wound([source.replace(comprehension, text)], lines_of([call]))
    return None


@operator("unregistered-modules", "optimizer-missing-params")
def plain_list(source: Source) -> Wound | None:
    calls = [c for c in source.calls("ModuleList") if c.args]
    return wound(each(calls, lambda c: source.replace(c.func, "list")), lines_of(calls))


@operator("unregistered-modules", "optimizer-missing-params")
def layer_in_a_list(source: Source) -> Wound | None:
    """A layer of the constructor hides in a list, where nothing registers it."""
    layers = _constructed(source, r"nn\.(Linear|GRU|LSTM|Conv1d|Conv2d)$")
    for node in layers[:1]:
        name = source.of(node.targets[0])
        uses = [
            n for n in source.all(ast.Call)
            if isinstance(n, ast.Call) and source.of(n.func) == name and _same_class(source, n, node)
        ]  # fmt: skip
        if uses and source.text.count("." + name.removeprefix("self.")) == len(uses) + 1:
            edits = [*source.wrap(node.value, "[", "]"), *(source.replace(u.func, f"{name}[0]") for u in uses)]
            return wound(edits, lines_of([node, *uses]))
    return None


def _same_class(source: Source, one: ast.AST, other: ast.AST) -> bool:
    return source.within(one, ast.ClassDef) is source.within(other, ast.ClassDef)


@operator("unused-layers", "missing-residual")
def branch_skipped(source: Source) -> Wound | None:
    """`x = x + self.f(x)` forgets its second term, so that a layer is never used."""
    for node in source.all(ast.BinOp):
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Add)
            and isinstance(node.left, ast.Name)
            and isinstance(node.right, ast.Call)
            and "self." in source.of(node.right)
            and source.within(node, ast.FunctionDef) in source.forwards
        ):
            lines = (node.lineno, *source.lines_with(*re.findall(r"self\.\w+ ?", source.of(node.right))))
            return wound([source.replace(node, source.of(node.left))], lines)
    return None


@operator("detached-graph", "non-differentiable-loss", "unused-layers", "params-not-updating")
def hidden_detached(source: Source) -> Wound | None:
    """An intermediate value loses its graph: `.data` in forward."""
    for forward in source.forwards:
        for statement in forward.body[:-1]:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                continue
            if "self." in source.of(statement.value):
                lines = (*lines_of([statement]), *source.lines_with("backward("))
                return wound(source.wrap(statement.value, "(", ").data"), lines)
    return None


@operator("excess-dropout")
def dropout_almost_all(source: Source) -> Wound | None:
    made = [c for c in source.calls("Dropout", "Dropout2d") if c.args]
    edits = [source.replace(c.args[0], "0.95") for c in made]
    lines = list(lines_of(made))
    for call in source.all(ast.Call):
        if isinstance(call, ast.Call) and not source.of(call.func).endswith("add_argument"):
            for keyword in call.keywords:
                if keyword.arg in ("dropout", "p") and isinstance(keyword.value, ast.Constant) and keyword.value.value:
                    edits.append(source.replace(keyword.value, "0.95"))
                    lines += lines_of([call])
    functions = [c for c in source.calls("dropout") if len(c.args) > 1]
    edits += [source.replace(c.args[1], "0.95") for c in functions]
    return wound(edits, [*lines, *lines_of(functions), *source.lines_with("drop(", "dropout=")])


@operator("excess-dropout", "wrong-output-activation")
def dropout_behind_output(source: Source) -> Wound | None:
    from benchmarks.operators.outputs import _last_returns

    made = _last_returns(source) if source.mentions(r"import torch\n") else []
    edits = each(made, lambda r: source.wrap(r.value, "torch.nn.functional.dropout(", ", 0.8, self.training)"))  # type: ignore[arg-type]
    return wound(edits, lines_of(made))


@operator("batchnorm-misuse")
def norm_epsilon_for_momentum(source: Source) -> Wound | None:
    """`BatchNorm(width, 0.8)`: the second argument is eps."""
    made = [c for c in source.calls("BatchNorm1d", "BatchNorm2d") if len(c.args) == 1]
    return wound(each(made, lambda c: source.wrap(c.args[0], "", ", 0.8")), lines_of(made))


@operator("batchnorm-misuse", "missing-eval-mode", "missing-train-mode")
def norm_never_averages(source: Source) -> Wound | None:
    """Running statistics that stay at their initial values."""
    made = source.calls("BatchNorm1d", "BatchNorm2d")
    return wound([source.keyword(c, "momentum", "1e-5") for c in made], lines_of(made))
