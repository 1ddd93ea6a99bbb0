"""Faults of learning rate schedules."""

from __future__ import annotations

import ast

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Edit, Source, called, lines_of


def _made(source: Source) -> list[tuple[str, ast.Assign, ast.Call]]:
    """Optimizers kept under a name: the name, its assignment, the call."""
    found = []
    for call in source.optimizers:
        assign = source.parents[call]
        if isinstance(assign, ast.Assign) and called(call) != "LBFGS":
            found.append((source.of(assign.targets[0]), assign, call))
    return found


def _scheduled(source: Source) -> list[ast.Call]:
    return [c for c in source.calls("step") if "sched" in source.of(c.func) or "warm" in source.of(c.func)]


@operator("scheduler-misuse", "lr-too-low")
def decay_by_batch(source: Source) -> Wound | None:
    """A decay that was meant for epochs is taken at every batch."""
    if not source.mentions(r"import torch\n") or _scheduled(source):
        return None
    edits: list[Edit] = []
    lines: list[int] = []
    for name, assign, call in _made(source):
        steps = [
            c for c in source.steps
            if source.of(c.func) == f"{name}.step" and source.scope(c) is source.scope(assign)
            and isinstance(source.parents[c], ast.Expr)
        ]  # fmt: skip
        if not steps:
            continue
        scheduler = f"{name}_schedule"
        edits.append(source.behind(assign, f"{scheduler} = torch.optim.lr_scheduler.StepLR({name}, 1, 0.5)"))
        edits += [source.behind(source.parents[c], f"{scheduler}.step()") for c in steps]  # type: ignore[arg-type]
        lines += lines_of([assign, call, *steps])
    return wound(edits, lines)


@operator("scheduler-misuse", "lr-too-low")
def epoch_schedule_stepped_by_batch(source: Source) -> Wound | None:
    """The program's own schedule, stepped in the inner loop instead of the outer."""
    made = source.calls("StepLR", "CosineAnnealingLR", "ExponentialLR", "MultiStepLR")
    outer = [c for c in _scheduled(source) if isinstance(source.parents[c], ast.Expr)]
    for call in outer:
        inner = [
            c for c in source.steps
            if isinstance(source.parents[c], ast.Expr) and len(source.loops(c)) > len(source.loops(call))
            and source.scope(c) is source.scope(call)
        ]  # fmt: skip
        if made and inner:
            edits = [source.replace(call, "None"), source.behind(source.parents[inner[0]], source.of(call))]  # type: ignore[arg-type]
            return wound(edits, lines_of([*made, call, *inner]))
    return None


@operator("scheduler-misuse", "lr-too-low")
def warmup_never_stepped(source: Source) -> Wound | None:
    """A warm-up is made and never stepped, so that the rate stays at its start."""
    if _scheduled(source):
        made = source.calls("LambdaLR", "OneCycleLR", "LinearLR", "get_linear_schedule_with_warmup")
        stepped = _scheduled(source)
        edits = [source.replace(c, "None") for c in stepped]
        return wound(edits, lines_of([*made, *stepped, *source.optimizers])) if made else None
    if not source.mentions(r"import torch\n"):
        return None
    edits = [
        source.behind(
            assign,
            f"{name}_warmup = torch.optim.lr_scheduler.LambdaLR({name}, lambda step: min(1.0, (step + 1) / 2000))",
        )
        for name, assign, _ in _made(source)
    ]
    return wound(edits, lines_of([assign for _, assign, _ in _made(source)]))


@operator("scheduler-misuse", "lr-too-low")
def absolute_lambda(source: Source) -> Wound | None:
    """LambdaLR gets the rate itself where it wants a factor."""
    if not source.mentions(r"import torch\n") or _scheduled(source):
        return None
    edits: list[Edit] = []
    lines: list[int] = []
    for name, assign, call in _made(source):
        rate = next((source.of(k.value) for k in call.keywords if k.arg == "lr"), None)
        if rate is not None and called(call) != "SGD":
            text = f"{name}_schedule = torch.optim.lr_scheduler.LambdaLR({name}, lambda step: {rate} * 0.999 ** step)"
            edits.append(source.behind(assign, text))
            lines += lines_of([assign, call])
    return wound(edits, lines)
