"""Which sample input goes to which input of the artifact and of the reference."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from doctor.parity.reference import Reference
from doctor.parity.tensors import Tensors


@dataclass
class Alignment:
    """The sample under both sides' names.

    `renamed` maps inputs of the artifact to sample inputs of other names that were passed by position; `missing` are
    inputs of the artifact for which the sample holds nothing, `surplus` sample inputs that it does not take.
    """

    given: Tensors = field(default_factory=dict)
    arguments: Tensors = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)


def align(
    sample: Tensors,
    inputs: Sequence[str] | None,
    reference: Reference | None,
    *,
    by_name: bool,
    optional: Container[str] = (),
) -> Alignment:
    """Pair by name where the names are known; what is left over goes by position.

    An artifact that is called by position gets the inputs in the order of the reference's forward.
    """
    found = Alignment()
    if reference is not None:
        found.arguments = reference.arguments(sample)
    if inputs is None:
        found.given = dict(found.arguments or sample)
        return found
    if not by_name and found.arguments and len(found.arguments) == len(inputs):
        found.given = dict(zip(inputs, found.arguments.values(), strict=True))
        return found
    left = dict(sample)
    for name in inputs:
        if name in left:
            found.given[name] = left.pop(name)
    unfed = [name for name in inputs if name not in found.given]
    for name, other in zip(unfed, list(left), strict=False):
        found.given[name] = left.pop(other)
        found.renamed[name] = other
    found.given = {name: found.given[name] for name in inputs if name in found.given}
    found.missing = [name for name in inputs if name not in found.given and name not in optional]
    found.surplus = list(left)
    return found


def cast(given: Tensors, ports: Mapping[str, dict[str, Any]]) -> tuple[Tensors, dict[str, tuple[str, str]]]:
    """The inputs in the dtypes that the artifact declares, and which had another."""
    changed: dict[str, tuple[str, str]] = {}
    result = dict(given)
    for name, value in given.items():
        wanted = getattr(torch, (ports.get(name) or {}).get("dtype") or "", None)
        if isinstance(wanted, torch.dtype) and wanted is not value.dtype:
            result[name] = value.to(wanted)
            changed[name] = (str(value.dtype).removeprefix("torch."), str(wanted).removeprefix("torch."))
    return result, changed


def batch_axes(given: Tensors, ports: Mapping[str, dict[str, Any]]) -> dict[str, int]:
    """The batch axis of each input that has one: by the name of a free dimension (one that speaks of a batch, else the
    first of the first input), where the artifact declares one, else the first axis of those with as many rows as the
    first input.
    """
    axes: dict[str, int] = {}
    declared = [list((ports.get(name) or {}).get("dims") or []) for name in given]
    symbols = [dim for dims in declared for dim in dims if isinstance(dim, str)]
    batch, symbol = None, next((dim for dim in symbols if "batch" in dim.lower()), None)
    for (name, value), dims in zip(given.items(), declared, strict=True):
        if not value.dim():
            continue
        if batch is None:
            batch = value.shape[0]
            if symbol is None and dims and isinstance(dims[0], str):
                symbol = dims[0]
            elif symbol in dims and len(dims) == value.dim():
                batch = value.shape[dims.index(symbol)]
        if symbol is not None and symbol in dims and len(dims) == value.dim():
            axes[name] = dims.index(symbol)
        elif value.shape[0] == batch and not (symbol and dims and isinstance(dims[0], str) and dims[0] != symbol):
            axes[name] = 0
    return axes
