"""Faults of the training loop: gradients, backward and steps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Edit, Source, each, lines_of


def _loop_lines(source: Source) -> tuple[int, ...]:
    return source.lines_with("backward(", ".step(", "zero_grad(")


@operator("missing-zero-grad")
def drop_zero_grad(source: Source) -> Wound | None:
    calls = source.calls("zero_grad")
    return wound(each(calls, lambda c: source.replace(c, "None")), _loop_lines(source))


@operator("missing-step", "missing-backward")
def drop_step(source: Source) -> Wound | None:
    return wound(each(source.steps, lambda c: source.replace(c, "None")), _loop_lines(source))


@operator("missing-backward", "missing-step", "program-crash")
def drop_backward(source: Source) -> Wound | None:
    return wound(each(source.backwards, lambda c: source.replace(c, "None")), _loop_lines(source))


@operator("duplicate-params", "duplicate-step")
def step_twice(source: Source) -> Wound | None:
    steps = [(call, source.parents[call]) for call in source.steps]
    edits = [source.behind(s, source.of(c)) for c, s in steps if isinstance(s, ast.Expr)]
    return wound(edits, lines_of(source.steps))


@operator("duplicate-loss-term", "duplicate-backward", "gradient-counted-twice", "reduction-scale")
def backward_twice(source: Source) -> Wound | None:
    """The same loss goes backward twice, so that every gradient counts double."""
    if source.learns_by_adam():
        return None
    edits = []
    for call in source.backwards:
        statement = source.parents[call]
        if isinstance(statement, ast.Expr) and not call.keywords:
            edits += [source.keyword(call, "retain_graph", "True"), source.behind(statement, source.of(call))]
    return wound(edits, lines_of(source.backwards))


def _kept_optimizers(source: Source) -> Iterator[tuple[ast.Assign, ast.Call]]:
    """Optimizers under a name, each with its step in the same function, inside a loop."""
    for made in source.optimizers:
        assign = source.parents[made]
        if not isinstance(assign, ast.Assign) or made.lineno != made.end_lineno:
            continue
        name = source.of(assign.targets[0])
        for call in source.steps:
            own = source.of(call.func) == f"{name}.step" and source.scope(call) is source.scope(assign)
            if own and source.loops(call):
                yield assign, call
                break


@operator("optimizer-reset", "bad-momentum", "lr-too-low")
def new_optimizer_each_step(source: Source) -> Wound | None:
    for assign, call in _kept_optimizers(source):
        statement = source.statement(call)
        if statement is not None:
            return wound([source.before(statement, source.of(assign))], (statement.lineno, assign.lineno))
    return None


@operator("optimizer-reset", "bad-momentum", "lr-too-low")
def new_optimizer_each_epoch(source: Source) -> Wound | None:
    for assign, call in _kept_optimizers(source):
        loops = source.loops(call)
        first = loops[1].body[0] if len(loops) > 1 else None
        if isinstance(first, ast.Expr | ast.Assign):
            return wound([source.before(first, source.of(assign))], (first.lineno, assign.lineno))
    return None


@operator("accumulation-unscaled", "lr-too-high", "reduction-scale")
def accumulation_without_scale(source: Source) -> Wound | None:
    """`loss = ... / accumulate` loses its division."""
    for loss in source.losses:
        value = loss.value
        if (
            isinstance(value, ast.BinOp)
            and isinstance(value.op, ast.Div)
            and re.search("accum", source.of(value.right))
        ):
            return wound([source.replace(value, source.of(value.left))], (loss.lineno, *_loop_lines(source)))
    return None


@operator("clip-too-small", "lr-too-low")
def clip_to_nothing(source: Source) -> Wound | None:
    """Only where the size of the gradient matters to the optimizer."""
    if source.learns_by_adam():
        return None
    clips = [c for c in source.calls("clip_grad_norm_", "clip_grad_value_") if len(c.args) > 1]
    if clips:
        return wound(each(clips, lambda c: source.replace(c.args[1], "1e-4")), lines_of(clips))
    edits: list[Edit] = []
    lines: list[int] = []
    names = dict.fromkeys(name for name, _ in source.models)
    for call in source.backwards:
        statement = source.parents[call]
        scope_names = [name for name in names if name.isidentifier() and _visible(source, name, call)]
        if isinstance(statement, ast.Expr) and scope_names:
            edits.append(
                source.behind(statement, f"torch.nn.utils.clip_grad_norm_({scope_names[0]}.parameters(), 1e-4)")
            )
            lines.append(call.lineno)
    return wound(edits, lines) if source.mentions(r"import torch\n") else None


def _visible(source: Source, name: str, node: ast.AST) -> bool:
    scope = source.scope(node)
    if any(source.scope(assign) in (scope, source.tree) for assign in source.assigns(name)):
        return True
    return isinstance(scope, ast.FunctionDef) and name in {a.arg for a in scope.args.args}


@operator("lr-too-low", "scheduler-misuse")
def step_once_an_epoch(source: Source) -> Wound | None:
    """`optimizer.step()` has slipped out of the loop over batches."""
    for call in source.steps:
        statement, loops = source.parents[call], source.loops(call)
        if not (isinstance(statement, ast.Expr) and len(loops) > 1 and loops[0] in loops[1].body):
            continue
        place = loops[1].body.index(loops[0]) + 1
        after = loops[1].body[place] if place < len(loops[1].body) else None
        if isinstance(after, ast.Expr | ast.Assign):
            edits = [source.replace(call, "None"), source.before(after, source.of(call))]
            return wound(edits, (*_loop_lines(source), after.lineno))
    return None
