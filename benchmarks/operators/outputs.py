"""Faults of the model's output: a second activation, the wrong one, over the wrong axis."""

from __future__ import annotations

import ast

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.operators.losses import BINARY, CROSS_ENTROPY, REGRESSION, applied, trained
from benchmarks.source import Edit, Source, each, lines_of


def _torch(source: Source) -> bool:
    return source.mentions(r"import torch\n")


@operator("wrong-output-activation")
def softmax_before_cross_entropy(source: Source) -> Wound | None:
    calls = trained(source, applied(source, *CROSS_ENTROPY)) if _torch(source) else []
    return wound(each(calls, lambda c: source.wrap(c.args[0], "torch.softmax(", ", dim=-1)")), lines_of(calls))


@operator("wrong-output-activation")
def softmax_in_forward(source: Source) -> Wound | None:
    """The classifier's last line returns probabilities."""
    made = _last_returns(source) if applied(source, *CROSS_ENTROPY) and _torch(source) else []
    return wound(each(made, lambda r: source.wrap(r.value, "torch.softmax(", ", dim=1)")),  # type: ignore[arg-type]
                 lines_of([*made, *applied(source, *CROSS_ENTROPY)]))  # fmt: skip


@operator("wrong-output-activation")
def sigmoid_before_bce_with_logits(source: Source) -> Wound | None:
    calls = trained(source, applied(source, *BINARY)) if _torch(source) else []
    return wound(each(calls, lambda c: source.wrap(c.args[0], "torch.sigmoid(", ")")), lines_of(calls))


@operator("wrong-output-activation", "dead-relu")
def relu_on_output(source: Source) -> Wound | None:
    losses = applied(source, *CROSS_ENTROPY, *REGRESSION, *BINARY)
    made = _last_returns(source) if losses and _torch(source) else []
    edits = each(made, lambda r: source.wrap(r.value, "torch.relu(", ")"))  # type: ignore[arg-type]
    heads = [] if edits else _last_layers(source)
    edits += each(heads if losses and not source.forwards else [], lambda c: source.wrap(c, "", ", nn.ReLU()"))
    return wound(edits, lines_of([*made, *heads, *losses]))


def _last_returns(source: Source) -> list[ast.Return]:
    """What the model's own forward returns: one tensor, not a tuple."""
    names = {
        source.of(call.func) for _, assign in _models(source) for call in ast.walk(assign) if isinstance(call, ast.Call)
    }
    found = []
    for forward in source.forwards:
        owner = source.parents[forward]
        if isinstance(owner, ast.ClassDef) and owner.name in names:
            returns = [n for n in forward.body if isinstance(n, ast.Return)]
            found += [r for r in returns if r.value is not None and not isinstance(r.value, ast.Tuple)]
    return found


def _models(source: Source) -> list[tuple[str, ast.Assign]]:
    return [(name, assign) for name, _ in source.models for assign in source.assigns(name)]


def _last_layers(source: Source) -> list[ast.Call]:
    """A Linear that ends a Sequential."""
    ends = [c.args[-1] for c in source.calls("Sequential") if c.args]
    return [e for e in ends if isinstance(e, ast.Call) and source.of(e.func) == "nn.Linear"]


@operator("wrong-dim", "wrong-output-activation", "batch-mixing")
def softmax_over_the_batch(source: Source) -> Wound | None:
    """log_softmax or softmax at the output runs over the first axis."""
    calls = source.calls("log_softmax", "logsumexp")
    edits: list[Edit] = []
    lines: list[int] = []
    for call in calls:
        axis = next((k.value for k in call.keywords if k.arg == "dim"), call.args[-1] if call.args else None)
        if axis is not None and source.of(axis).lstrip("-").isdigit():
            edits.append(source.replace(axis, "0"))
            lines += lines_of([call])
    return wound(edits, lines)


@operator("wrong-output-activation", "ctc-blank-or-lengths", "wrong-loss")
def log_softmax_dropped(source: Source) -> Wound | None:
    calls = [c for c in source.calls("log_softmax") if isinstance(c.func, ast.Attribute)]
    edits = [source.replace(c, source.of(c.func.value if not _functional(source, c) else c.args[0])) for c in calls]  # type: ignore[attr-defined]
    return wound(edits, lines_of([*calls, *source.calls("ctc_loss", "nll_loss", "CTCLoss", "kl_div"), *source.losses]))


def _functional(source: Source, call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and source.of(call.func.value) in ("F", "torch", "nn.functional")
