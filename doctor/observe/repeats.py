"""Samples that come more than once."""

from __future__ import annotations

import torch


def distinct(inputs: torch.Tensor) -> torch.Tensor:
    """Where in `inputs` `(samples, ...)` each different sample comes first, in that order."""
    return first_of(groups(inputs.reshape(len(inputs), -1).double())).sort().values


def groups(rows: torch.Tensor) -> torch.Tensor:
    """A number for each of `rows` `(samples, values)` that equal ones share."""
    key = rows @ torch.sin(torch.arange(1, rows.shape[1] + 1, dtype=torch.float64) * 12.9898)
    group: torch.Tensor = torch.unique(key, return_inverse=True)[1]
    return group


def first_of(group: torch.Tensor) -> torch.Tensor:
    """The first index of each number."""
    order = torch.arange(len(group))
    return torch.full((int(group.max()) + 1,), len(group)).scatter_reduce(0, group, order, "amin")
