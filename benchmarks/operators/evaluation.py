"""Faults of evaluation: modes, gradients, data and metrics."""

from __future__ import annotations

import ast
import re

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Edit, Source, called, each, lines_of

_MODES = r"Dropout|BatchNorm|dropout|ResNetConfig|BertConfig"


@operator("missing-eval-mode")
def eval_dropped(source: Source) -> Wound | None:
    calls = [c for c in source.calls("eval") if isinstance(c.func, ast.Attribute)]
    if not source.mentions(_MODES):
        return None
    lines = [n for call in calls for n in range(call.lineno, call.lineno + 9)]
    return wound(each(calls, lambda c: source.replace(c, "None")), lines)


@operator("missing-train-mode")
def train_dropped(source: Source) -> Wound | None:
    """The model is never set back, so that it trains in eval mode from the first evaluation on."""
    calls = [
        c for c in source.calls("train") if isinstance(c.func, ast.Attribute) and not c.args and _is_model(source, c)
    ]
    if not source.mentions(_MODES) or not source.calls("eval"):
        return None
    return wound(
        each(calls, lambda c: source.replace(c, "None")),
        (*lines_of([*calls, *source.calls("eval")]), *source.lines_with("def train")),
    )


def _is_model(source: Source, call: ast.Call) -> bool:
    return not re.search("trainer", source.of(call.func), re.IGNORECASE)


@operator("missing-no-grad")
def gradients_while_evaluating(source: Source) -> Wound | None:
    # Where gradients are kept off while training (averages, updates by hand), no_grad is no matter of evaluation.
    if source.mentions(r"lerp_|p -= |p\.grad|swa_utils|topk|randn\(n, 2\)|\.numpy\(\)"):
        return None
    edits: list[Edit] = []
    lines: list[int] = []
    for block in source.all(ast.With):
        assert isinstance(block, ast.With)
        first = block.items[0].context_expr
        if source.of(first) in ("torch.no_grad()", "torch.inference_mode()"):
            edits.append(source.replace(first, "torch.enable_grad()"))
            lines += lines_of([block])
    for function in source.all(ast.FunctionDef):
        assert isinstance(function, ast.FunctionDef)
        for decorator in function.decorator_list:
            if source.of(decorator) == "torch.no_grad()":
                edits.append(source.replace(decorator, "torch.enable_grad()"))
                lines += [decorator.lineno, *lines_of([function])]
    return wound(edits, lines)


@operator("graph-retained")
def loss_tensors_kept(source: Source) -> Wound | None:
    """`total += loss` instead of `loss.item()`."""
    edits: list[Edit] = []
    lines: list[int] = []
    for call in source.calls("item"):
        owner = source.statement(call)
        summed = isinstance(owner, ast.AugAssign) or (isinstance(owner, ast.Expr) and "append(" in source.of(owner))
        name = source.of(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if summed and re.fullmatch(r"\w*loss", name) and owner is not None:
            edits.append(source.replace(call, name))
            lines += lines_of([owner])
    return wound(edits, lines)


@operator("eval-on-train", "train-test-leakage")
def evaluated_on_training_data(source: Source) -> Wound | None:
    """The name of the training data stands where that of the test data was meant."""
    edits: list[Edit] = []
    lines: list[int] = []
    for name in source.all(ast.Name):
        assert isinstance(name, ast.Name)
        twin = re.sub(r"test|val(?!ue)|eval|held_out", "train", name.id)
        if twin == name.id or not isinstance(name.ctx, ast.Load) or not source.assigns(twin):
            continue
        inside = source.within(name, ast.Call)
        block = source.within(name, ast.With)
        quiet = isinstance(block, ast.With) and "no_grad" in source.of(block.items[0].context_expr)
        measured = isinstance(inside, ast.Call) and re.search(r"eval|acc|error|auc|score|rate|valid", called(inside))
        loop = source.within(name, ast.For)
        looped = isinstance(loop, ast.For) and any(name is n for n in ast.walk(loop.iter))
        if quiet or measured or looped:
            edits.append(source.replace(name, twin))
            lines.append(name.lineno)
    return wound(edits, lines)


@operator("metric-bug")
def argmax_over_everything(source: Source) -> Wound | None:
    """`argmax()` without an axis gives one number, which is compared with every label."""
    calls = [c for c in source.calls("argmax") if c.args or c.keywords]
    calls = [c for c in calls if isinstance(source.parents[c], ast.Compare)]
    edits = each(calls, lambda c: source.replace(c, f"{source.of(c.func)}()"))
    return wound(edits, lines_of(calls))


@operator("metric-bug")
def divided_by_wrong_count(source: Source) -> Wound | None:
    """The number of batches where that of the samples was meant."""
    calls = [
        c for c in source.calls("len")
        if c.args and source.of(c.args[0]).endswith(".dataset") and isinstance(source.parents[c], ast.BinOp | ast.Assign)
    ]  # fmt: skip
    edits = each(calls, lambda c: source.replace(c.args[0], source.of(c.args[0]).removesuffix(".dataset")))
    return wound(edits, lines_of([*calls, *(r for c in calls if (r := source.within(c, ast.FunctionDef)))]))
