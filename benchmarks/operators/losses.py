"""Faults of the loss: its kind, sign, terms, shapes, shifts and masks."""

from __future__ import annotations

import ast
import re

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Edit, Source, called, each, lines_of

CROSS_ENTROPY = ("cross_entropy", "CrossEntropyLoss")
REGRESSION = ("mse_loss", "MSELoss", "huber_loss", "HuberLoss", "smooth_l1_loss", "SmoothL1Loss", "l1_loss", "L1Loss")
BINARY = ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss")


def applied(source: Source, *names: str) -> list[ast.Call]:
    """Calls `loss(prediction, target)` of these losses: functions, or modules kept under a name."""
    kept: set[str] = set()
    for call in source.calls(*(name for name in names if name[0].isupper())):
        parent = source.parents[call]
        if isinstance(parent, ast.Assign):
            kept.update(source.of(goal) for goal in parent.targets)
    functions = [c for c in source.calls(*(name for name in names if name[0].islower())) if len(c.args) >= 2]
    modules = [
        c for c in source.all(ast.Call) if isinstance(c, ast.Call) and source.of(c.func) in kept and len(c.args) >= 2
    ]
    return [*functions, *modules]


def trained(source: Source, calls: list[ast.Call]) -> list[ast.Call]:
    """Those of the calls that are not in a scope without gradients."""
    return [c for c in calls if not (isinstance(b := source.within(c, ast.With), ast.With) and "no_grad" in source.of(b.items[0].context_expr))]  # fmt: skip


@operator("loss-sign")
def negated(source: Source) -> Wound | None:
    losses = [a for a in source.losses if re.search(r"entropy|mse|nll|ctc|criterion|huber|loss", source.of(a.value))]
    return wound(each(losses, lambda a: source.wrap(a.value, "-(", ")")), lines_of([*losses, *source.backwards]))


def _sums(source: Source) -> list[ast.BinOp]:
    """Sums that make a loss: in the assignment, or in what the loss function returns."""
    values: list[ast.AST] = [loss.value for loss in source.losses]
    for function in source.all(ast.FunctionDef):
        assert isinstance(function, ast.FunctionDef)
        if "loss" in function.name or function.name == "combine":
            values += [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]
    sums = []
    for value in values:
        while isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div | ast.Mult):
            value = value.left
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            sums.append(value)
    return sums


@operator("duplicate-loss-term", "loss-weighting")
def term_twice(source: Source) -> Wound | None:
    return wound([source.replace(s.right, f"{source.of(s.right)} + 10 * {source.of(s.right)}") for s in _sums(source)],
                 lines_of(_sums(source)))  # fmt: skip


@operator("missing-loss-term", "unused-layers")
def term_left_out(source: Source) -> Wound | None:
    return wound([source.replace(s, source.of(s.left)) for s in _sums(source)], lines_of(_sums(source)))


@operator("loss-weighting")
def term_dominates(source: Source) -> Wound | None:
    return wound([source.replace(s.right, f"1000 * ({source.of(s.right)})") for s in _sums(source)],
                 lines_of(_sums(source)))  # fmt: skip


@operator("reduction-scale", "lr-too-high", "exploding-gradients")
def summed(source: Source) -> Wound | None:
    """`reduction="sum"`, where the optimizer feels the size of the gradient."""
    if source.learns_by_adam():
        return None
    made = source.calls("CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss", "TripletMarginLoss", "HuberLoss")
    made += source.calls("cross_entropy", "mse_loss", "binary_cross_entropy_with_logits")
    return wound([source.keyword(c, "reduction", '"sum"') for c in made], lines_of([*made, *source.losses]))


@operator("wrong-loss", "wrong-output-size")
def squared_error_on_class_ids(source: Source) -> Wound | None:
    calls = trained(source, applied(source, *CROSS_ENTROPY))
    if not source.mentions(r"import torch\n"):
        return None
    edits = []
    for c in calls:
        scores, target = source.of(c.args[0]), source.of(c.args[1])
        edits.append(source.replace(c, f"torch.nn.functional.mse_loss(({scores})[..., 0], ({target}).float())"))
    return wound(edits, lines_of([*calls, *source.calls("CrossEntropyLoss")]))


@operator("wrong-loss", "wrong-output-size")
def cross_entropy_over_one_output(source: Source) -> Wound | None:
    calls = trained(source, applied(source, *BINARY))
    if not source.mentions(r"import torch\n"):
        return None
    edits = []
    for c in calls:
        scores, target = source.of(c.args[0]), source.of(c.args[1])
        text = f"torch.nn.functional.cross_entropy(({scores}).reshape(-1, 1), ({target}).reshape(-1, 1))"
        edits.append(source.replace(c, text))
    return wound(edits, lines_of([*calls, *source.calls("BCEWithLogitsLoss")]))


@operator("broadcast-loss")
def squeeze_dropped(source: Source) -> Wound | None:
    """The prediction stays (N, 1) against targets (N,)."""
    if not (applied(source, *REGRESSION, *BINARY, "BCELoss")):
        return None
    squeezed = [
        c for c in source.calls("squeeze") if "embed" not in source.of(c).lower() and "bias" not in source.of(c)
    ]
    squeezed = [c for c in squeezed if isinstance(c.func, ast.Attribute)]
    losses = applied(source, *REGRESSION, *BINARY, "BCELoss")
    edits = [source.replace(c, source.of(c.func.value)) for c in squeezed]  # type: ignore[attr-defined]
    return wound(edits, lines_of([*squeezed, *losses]))


@operator("broadcast-loss")
def target_unsqueezed(source: Source) -> Wound | None:
    """The target is (N, 1) against predictions (N,)."""
    if not source.calls("squeeze"):
        return None
    calls = trained(source, [c for c in applied(source, *REGRESSION) if "gaussian" not in called(c)])
    return wound(each(calls, lambda c: source.wrap(c.args[1], "(", ").unsqueeze(-1)")), lines_of(calls))


@operator("non-differentiable-loss", "detached-graph")
def loss_rebuilt_from_number(source: Source) -> Wound | None:
    if not source.mentions(r"import torch\n"):
        return None
    edits = each(source.losses, lambda a: source.wrap(a.value, "torch.tensor((", ").item(), requires_grad=True)"))
    return wound(edits, lines_of([*source.losses, *source.backwards]))


@operator("non-differentiable-loss", "detached-graph")
def loss_detached(source: Source) -> Wound | None:
    calls = [c for c in source.backwards if isinstance(c.func, ast.Attribute)]
    edits = each(calls, lambda c: source.wrap(c.func.value, "(", ").detach().requires_grad_()"))  # type: ignore[attr-defined]
    return wound(edits, lines_of([*calls, *source.losses]))


@operator("non-differentiable-loss", "detached-graph")
def hard_decision_in_loss(source: Source) -> Wound | None:
    """The loss compares the chosen class, not the scores."""
    calls = trained(source, applied(source, *CROSS_ENTROPY))
    edits = []
    for c in calls:
        scores, target = source.of(c.args[0]), source.of(c.args[1])
        text = f"(({scores}).argmax(-1).float() - ({target}).float()).abs().mean().requires_grad_()"
        edits.append(source.replace(c, text))
    return wound(edits, lines_of([*calls, *source.backwards]))


# -- sequences ----------------------------------------------------------------------------------------------------


def _shifted(source: Source) -> list[ast.Slice]:
    """Slices of targets that begin one place later: `1:` beside `:-1`, or `i + 1:i + n + 1`."""
    slices = [node for node in source.all(ast.Slice) if isinstance(node, ast.Slice) and node.step is None]
    ahead = [
        s for s in slices if s.lower is not None and s.upper is not None and _plus_one(s.lower) and _plus_one(s.upper)
    ]
    behind = [s for s in slices if s.lower is None and s.upper is not None and source.of(s.upper) == "-1"]
    if behind:
        ahead += [s for s in slices if s.upper is None and s.lower is not None and source.of(s.lower) == "1"]
    return ahead


def _plus_one(node: ast.expr) -> bool:
    last = node.right if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) else None
    return isinstance(last, ast.Constant) and last.value == 1


@operator("label-shift", "causal-leak")
def targets_not_shifted(source: Source) -> Wound | None:
    """The model is taught to repeat its input."""
    edits: list[Edit] = []
    found = _shifted(source)
    for s in found:
        assert s.lower is not None
        if s.upper is None:
            edits.append(source.replace(s, ":-1"))
        else:
            edits += [source.replace(b, source.of(b.left)) for b in (s.lower, s.upper) if isinstance(b, ast.BinOp)]
    return wound(edits, lines_of([*found, *source.losses]))


@operator("label-shift")
def targets_shifted_twice(source: Source) -> Wound | None:
    found = [s for s in _shifted(source) if s.upper is not None]
    edits = [source.replace(b.right, "2") for s in found for b in (s.lower, s.upper) if isinstance(b, ast.BinOp)]
    return wound(edits, lines_of([*found, *source.losses]))


@operator("label-shift")
def labels_shifted_before_the_model_shifts(source: Source) -> Wound | None:
    """A language model of transformers shifts its labels itself."""
    found = [n for n in source.all(ast.Dict) if isinstance(n, ast.Dict) and source.mentions("LMHeadModel")]
    edits: list[Edit] = []
    lines: list[int] = []
    for node in found:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "labels":
                edits.append(source.replace(value, f"({source.of(value)}).roll(-1)"))
                lines.append(value.lineno)
    return wound(edits, lines)


@operator("padding-not-masked")
def ignore_index_dropped(source: Source) -> Wound | None:
    made = [c for c in source.calls(*CROSS_ENTROPY) if any(k.arg == "ignore_index" for k in c.keywords)]
    edits: list[Edit | None] = [source.without_keyword(c, "ignore_index") for c in made]
    if source.mentions("-100"):
        edits += [source.replace(n, "0") for n in source.all(ast.UnaryOp) if source.of(n) == "-100"
                  and not any(n in ast.walk(c) for c in made)]  # fmt: skip
    return wound(edits, lines_of([*made, *source.losses, *applied(source, *CROSS_ENTROPY)])) if made else None


@operator("ctc-blank-or-lengths")
def blank_is_a_letter(source: Source) -> Wound | None:
    made = source.calls("CTCLoss", "ctc_loss")
    other = [c for c in made if not any(k.arg == "blank" for k in c.keywords)]
    edits = [source.keyword(c, "blank", "3" if c in other else "0") for c in made]
    return wound(edits, lines_of([*made, *source.losses]))


@operator("ctc-blank-or-lengths")
def input_lengths_halved(source: Source) -> Wound | None:
    calls = [c for c in [*applied(source, "CTCLoss"), *source.calls("ctc_loss")] if len(c.args) >= 4]
    return wound(each(calls, lambda c: source.wrap(c.args[2], "(", ") // 4")), lines_of(calls))
