"""Faults of the optimizer: rates, what it holds, momentum, decay."""

from __future__ import annotations

import ast

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Edit, Source, called, lines_of


def _rates(source: Source) -> list[tuple[ast.Call, ast.expr]]:
    calls = [call for call in [*source.optimizers, *source.calls("TrainingArguments")] if called(call) != "LBFGS"]
    return [(call, word.value) for call in calls for word in call.keywords if word.arg in ("lr", "learning_rate")]


def _scaled(source: Source, factor_adam: str, factor_sgd: str) -> Wound | None:
    edits: list[Edit] = []
    lines: list[int] = []
    for call, value in _rates(source):
        factor = factor_sgd if called(call) == "SGD" else factor_adam
        edits.append(source.replace(value, f"{factor} * ({source.of(value)})"))
        name = source.of(value).rpartition(".")[2]
        lines += [*lines_of([call]), *source.lines_with(f"--{name}", f"{name} =", f"{name}=", f"{name}:")]
    return wound(edits, lines)


@operator("lr-too-high", "exploding-gradients", "nan-gradients", "dead-relu")
def rate_too_high(source: Source) -> Wound | None:
    return _scaled(source, "300", "100")


@operator("lr-too-low")
def rate_too_low(source: Source) -> Wound | None:
    return _scaled(source, "1e-4", "1e-4")


def _parameters(source: Source) -> list[ast.Call]:
    return [
        node
        for made in source.optimizers
        for node in ast.walk(made)
        if isinstance(node, ast.Call) and called(node) == "parameters"
    ]


@operator("optimizer-missing-params", "frozen-params")
def optimize_head_only(source: Source) -> Wound | None:
    held = _parameters(source)
    if source.mentions(r"requires_grad") and not source.mentions("Trainer"):
        return None
    return wound([source.replace(c, f"list({source.of(c)})[-2:]") for c in held], lines_of(held))


@operator("optimizer-missing-params", "unused-layers")
def optimize_all_but_head(source: Source) -> Wound | None:
    held = _parameters(source)
    return wound([source.replace(c, f"list({source.of(c)})[:-2]") for c in held], lines_of(held))


@operator("stale-optimizer", "optimizer-missing-params", "params-not-updating")
def model_replaced_later(source: Source) -> Wound | None:
    """The model is built again after the optimizer was made over the first one."""
    for name, made in source.models:
        assign = source.parents[made]
        target = name.replace("self.", "").isidentifier()
        if isinstance(assign, ast.Assign) and target and source.scope(assign) is _home(source, name):
            text = f'{name} = __import__("copy").deepcopy({name})'
            return wound([source.behind(assign, text)], lines_of([assign, *source.assigns(name)]))
    return None


def _home(source: Source, name: str) -> ast.AST | None:
    assigns = source.assigns(name)
    return source.scope(assigns[-1]) if assigns else None


@operator("excess-weight-decay")
def decay_too_strong(source: Source) -> Wound | None:
    edits = [
        source.keyword(call, "weight_decay", "100.0" if called(call) == "AdamW" else "5.0")
        for call in source.optimizers
        if called(call) != "LBFGS"
    ]
    arguments = [source.keyword(call, "weight_decay", "100.0") for call in source.calls("TrainingArguments")]
    return wound([*edits, *arguments], lines_of([*source.optimizers, *source.calls("TrainingArguments")]))


@operator("bad-momentum", "lr-too-high")
def momentum_too_long(source: Source) -> Wound | None:
    made = [call for call in source.optimizers if called(call) == "SGD"]
    return wound([source.keyword(c, "momentum", "0.999") for c in made], lines_of(made))


@operator("bad-momentum", "lr-too-high", "lr-too-low")
def betas_swapped(source: Source) -> Wound | None:
    made = [call for call in source.optimizers if called(call) in ("Adam", "AdamW")]
    return wound([source.keyword(c, "betas", "(0.999, 0.9)") for c in made], lines_of(made))


@operator("bad-momentum", "lr-too-low")
def epsilon_too_large(source: Source) -> Wound | None:
    """Adam's eps of 10 turns its steps into gradient descent at a tenth of the rate."""
    made = [call for call in source.optimizers if called(call) in ("Adam", "AdamW")]
    return wound([source.keyword(c, "eps", "10.0") for c in made], lines_of(made))


@operator("frozen-params", "params-not-updating", "optimizer-missing-params")
def all_but_the_head_frozen(source: Source) -> Wound | None:
    if source.mentions(r"requires_grad_\(False|requires_grad = False"):
        return None
    for name, _ in source.models:
        for assign in source.assigns(name)[:1]:
            if len(assign.targets) == 1 and not isinstance(assign.targets[0], ast.Tuple):
                text = f"[p.requires_grad_(False) for p in list({name}.parameters())[:-2]]"
                return wound([source.behind(assign, text)], lines_of([assign, *source.optimizers]))
    return None
