"""Faults of the parameters' first values."""

from __future__ import annotations

import ast

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Edit, Source, lines_of


def _initialised(source: Source, change: str, *, deep: bool = False) -> Wound | None:
    """Behind the model's construction: a change of each parameter `p` of two axes or more."""
    if not source.mentions(r"import torch\n") or source.mentions(r"from_pretrained|swa_utils"):
        return None
    if deep and source.mentions(r"Embedding|GPT2|Bert"):
        return None
    edits: list[Edit] = []
    lines: list[int] = []
    for name in dict.fromkeys(name for name, _ in source.models):
        assigns = source.assigns(name)
        if not assigns or name == "self":
            continue
        assign = assigns[0]
        if isinstance(assign.targets[0], ast.Tuple) and source.mentions(r"Trainer\("):
            continue
        edits.append(source.behind(assign, f"[{change} for p in {name}.parameters() if p.dim() > 1]"))
        lines += lines_of([assign])
    if not edits:
        return None
    # The fault may as well be told where the layers are made or used.
    return wound(edits, [*lines, *source.lines_with("Linear(", "Conv", "Embedding(", "LSTM(", "GRU(", "forward")])


@operator("zero-init", "symmetric-init")
def all_zero(source: Source) -> Wound | None:
    return _initialised(source, "torch.nn.init.zeros_(p)", deep=True)


@operator("symmetric-init")
def all_equal(source: Source) -> Wound | None:
    return _initialised(source, "torch.nn.init.constant_(p, 0.05)", deep=True)


@operator("large-init", "exploding-gradients", "dead-relu", "saturated-activation")
def far_too_large(source: Source) -> Wound | None:
    return _initialised(source, "torch.nn.init.normal_(p, std=3.0)")


@operator("vanishing-gradients", "small-init", "zero-init", "lr-too-low", "symmetric-init")
def far_too_small(source: Source) -> Wound | None:
    return _initialised(source, "torch.nn.init.normal_(p, std=1e-4)", deep=True)


@operator("nan-params", "nan-gradients")
def one_value_is_nan(source: Source) -> Wound | None:
    return _initialised(source, 'p.data.view(-1)[:1].fill_(float("nan"))')
