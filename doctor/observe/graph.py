"""Walking the autograd graph from a loss to its leaves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

_MOST_NODES = 200_000


@dataclass
class Walk:
    """The graph of one backward: leaves reached, names of the nodes (breadth first), sequence numbers."""

    leaves: list[torch.Tensor]
    names: list[str]
    sequence_numbers: set[int]


def walk(losses: list[torch.Tensor]) -> Walk:
    """Visit every node once. A loss that is itself a leaf is its own only leaf."""
    leaves: dict[int, torch.Tensor] = {}
    names: list[str] = []
    numbers: set[int] = set()
    queue: deque[Any] = deque()
    seen: set[Any] = set()
    for loss in losses:
        if loss.grad_fn is not None:
            queue.append(loss.grad_fn)
            seen.add(loss.grad_fn)
        elif loss.requires_grad:
            leaves[id(loss)] = loss
    while queue and len(seen) < _MOST_NODES:
        node = queue.popleft()
        names.append(node.name())
        numbers.add(node._sequence_nr())
        variable = getattr(node, "variable", None)
        if isinstance(variable, torch.Tensor):
            leaves[id(variable)] = variable
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return Walk(list(leaves.values()), names, numbers)
