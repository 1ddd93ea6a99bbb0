"""Experiments on an artifact and its reference: again, in other batches, alone, at other lengths, on other branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from doctor.parity import branches as decided
from doctor.parity.backends import OnnxBackend
from doctor.parity.bench import Bench, attempt, recorded
from doctor.parity.difference import Difference, compared, worst
from doctor.parity.tensors import Tensors, rows

BATCHES = (1, 2, 7)
_OTHERS = (1, 2, 3, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 64)
_ALONE = 4  # rows that are also run alone


def repeats(bench: Bench) -> None:
    """The same inputs twice; ONNX Runtime with and without graph optimisations."""
    given = bench.where.given
    for plain in (False, True) if isinstance(bench.backend, OnnxBackend) else (False,):
        outcome, failure = attempt(lambda plain=plain: [bench.backend(given, plain=plain) for _ in range(2)])  # type: ignore[misc]
        if outcome is None:
            bench.emit("repeat", plain=plain, error=failure)
        else:
            bench.emit("repeat", plain=plain, differences=recorded(compared(*outcome)))
    if bench.reference is not None:
        arguments = bench.where.arguments
        twice, _ = attempt(lambda: [bench.reference(arguments, seed=None) for _ in range(2)])  # type: ignore[misc]
        if twice is not None:
            bench.emit("reference_repeat", differences=recorded(compared(*twice)))


def batches(bench: Bench) -> None:
    """Other batch sizes, of the sample's rows."""
    where = bench.where
    batch = bench.batch(where.given)
    if not bench.axes or not batch:
        return
    for size in BATCHES:
        index = [row % batch for row in range(size)]
        given = rows(where.given, bench.axes, index)
        bench.compare_on("batch", {"size": size}, given, bench.as_arguments(given))


def search_batch(bench: Bench, failure: str | None) -> None:
    """Look for a batch size at which made-up inputs do not fail: then it is the others that do."""
    batch = bench.batch(bench.where.given)
    if not bench.axes or not batch:
        return
    for size in _OTHERS:
        given = rows(bench.where.given, bench.axes, [row % batch for row in range(size)])
        actual, _ = attempt(lambda given=given: bench.backend(given))  # type: ignore[misc]
        if actual is not None:
            bench.emit("batch", size=batch, error=f"{failure}; a batch of {size} passes")
            return


def alone(bench: Bench, actual: Tensors) -> None:
    """Each row alone against the same row in the batch, of the artifact and of the reference."""
    where, batch = bench.where, bench.batch(bench.where.given)
    if not bench.axes or not batch or batch < 2:
        return
    sides: list[tuple[str, Callable[[Tensors], Tensors]]] = [("artifact", bench.backend)]
    if bench.reference is not None and where.arguments:
        sides.append(("reference", lambda given: bench.reference(bench.as_arguments(given))))  # type: ignore[misc]
    for side, call in sides:
        whole, _ = attempt(lambda call=call: call(where.given))  # type: ignore[misc]
        found: list[Difference] = []
        for row in range(min(batch, _ALONE)):
            one = rows(where.given, bench.axes, [row])
            single, _ = attempt(lambda call=call, one=one: call(one))  # type: ignore[misc]
            if single is None or whole is None:
                continue
            for name, value in whole.items():
                if name in single and value.dim() and value.shape[0] == batch and single[name].shape[:1] == (1,):
                    scale = compared({name: value}, {name: value})[0].scale
                    found += compared({name: value[row : row + 1]}, {name: single[name]}, {name: scale})
        if found:
            at = worst(found)
            bench.emit("alone", side=side, difference=at.record(), within=at.within(bench.limits))


def changes(bench: Bench, expected: Tensors, actual: Tensors) -> None:
    """One input changed at a time: whether either side notices, and whether they agree."""
    reference, where = bench.reference, bench.where
    names = bench.names()
    if reference is None or len(where.arguments) < 2:
        return
    for name in list(where.arguments)[:8]:
        changed = decided.changed(where.arguments[name])
        if changed is None:
            continue
        arguments = {**where.arguments, name: changed}
        wanted, _ = attempt(lambda arguments=arguments: reference(arguments))  # type: ignore[misc]
        if wanted is None or all(each.within(bench.limits) for each in compared(expected, wanted)):
            continue
        port = next((key for key, other in names.items() if other == name and key in where.given), None)
        if port is None:
            bench.emit("changed", input=name, taken=False, noticed=False)
            continue
        given = {**where.given, port: changed.to(where.given[port].dtype)}
        got, failure = attempt(lambda given=given: bench.backend(given))  # type: ignore[misc]
        if got is None:
            bench.emit("changed", input=name, taken=True, noticed=True, error=failure)
            continue
        noticed = not all(each.largest == 0 for each in compared(actual, got))
        found = compared(wanted, got, bench.scales)
        fine = all(each.within(bench.limits) for each in found)
        bench.emit("changed", input=name, taken=True, noticed=noticed, differences=recorded(found), within=fine)


def lengths(bench: Bench) -> None:
    """Other sizes of free dimensions, where the reference takes them."""
    for label, size, length in _free_dimensions(bench):
        for other in dict.fromkeys((length // 2, length + 3)):
            if other < 1 or other == length:
                continue
            given = {
                name: _resized(bench, name, value, size, length, other) for name, value in bench.where.given.items()
            }
            about = {"dimension": label, "size": other, "declared": isinstance(size, str)}
            bench.compare_on("length", about, given, bench.as_arguments(given))


def _free_dimensions(bench: Bench) -> Iterator[tuple[str, str | None, int]]:
    """Name, symbol and sample size of dimensions that the artifact leaves free, the batch apart."""
    seen: set[Any] = set()
    for name, value in bench.where.given.items():
        dims = (bench.ports.get(name) or {}).get("dims")
        for axis in range(value.dim()):
            if axis == bench.axes.get(name):
                continue
            if dims is not None and isinstance(dims[axis], int):
                continue
            symbol = dims[axis] if dims is not None else None
            length = value.shape[axis]
            if length >= 4 and (key := symbol or length) not in seen:
                seen.add(key)
                yield symbol or f"axis {axis} of {name}", symbol, length
        if len(seen) >= 3:
            return


def _resized(bench: Bench, name: str, value: torch.Tensor, symbol: str | None, length: int, other: int) -> torch.Tensor:
    dims = (bench.ports.get(name) or {}).get("dims")
    for axis in range(value.dim()):
        if axis == bench.axes.get(name):
            continue
        if (dims is not None and dims[axis] == symbol and symbol) or (symbol is None and value.shape[axis] == length):
            value = value.index_select(axis, torch.arange(other) % length)
    if value.dim() <= 1 and not value.is_floating_point() and value.numel() and 1 <= value.max() <= length:
        value = value.clamp(max=other)  # lengths of rows
    return value


def branches(bench: Bench) -> None:
    """Inputs on which the reference decides otherwise than on the sample."""
    reference = bench.reference
    assert reference is not None
    base = decided.decisions(reference, bench.where.arguments)
    if not base:
        return
    place = base[0]
    bench.emit("decisions", path=place.path, line=place.line, count=len(base))
    seen = {tuple(decision.value for decision in base)}
    for label, given in decided.variants(bench.where.given, bench.axes):
        arguments = bench.as_arguments(given)
        taken = decided.decisions(reference, arguments)
        steps = tuple(decision.value for decision in taken)
        if not taken or steps in seen:
            continue
        seen.add(steps)
        turned = next((b for a, b in zip(base, taken, strict=False) if a.value != b.value), taken[-1])
        about = {"label": label, "path": turned.path, "line": turned.line}
        bench.compare_on("branch", about, given, arguments)
