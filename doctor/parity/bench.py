"""The bench on which an artifact and its reference stand: what both get, and how one experiment is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from doctor.parity.aligned import Alignment
from doctor.parity.backends import Backend
from doctor.parity.difference import Difference, compared, tolerance
from doctor.parity.reference import Reference
from doctor.parity.tensors import Tensors, dtype_name

Emit = Callable[..., None]


class Bench:
    """An opened artifact, its reference if there is one, and the sample on both sides.

    `emit(section, **data)` takes results as they come. `axes` are the batch axes of the artifact's inputs, `scales` the
    scales of the outputs on the sample.
    """

    def __init__(self, job: dict[str, Any], emit: Emit, reference: Reference | None, backend: Backend) -> None:
        self.job, self.emit, self.reference, self.backend = job, emit, reference, backend
        self.ports: dict[str, dict[str, Any]] = {port["name"]: port for port in job["inputs_declared"]}
        self.scales: dict[str, float] = {}
        self.axes: dict[str, int] = {}
        self.limits = tolerance("float32")
        self.where = Alignment()

    def batch(self, values: Tensors) -> int | None:
        """Number of rows."""
        for name, value in values.items():
            if value.dim():
                return int(value.shape[self.axes.get(name, 0)])
        return None

    def names(self) -> dict[str, str]:
        """The reference's name of each input of the artifact: that with the same tensor, else by position."""
        where, names = self.where, dict[str, str]()
        for position, (name, value) in enumerate(where.given.items()):
            same = [
                key
                for key, other in where.arguments.items()
                if key not in names.values()
                and (other is value or (other.shape == value.shape and torch.equal(other.to(value.dtype), value)))
            ]
            named = [key for key in same if key in (name, where.renamed.get(name))]
            keys = list(where.arguments)
            by_position = keys[position : position + 1] if keys[position : position + 1] else []
            choice = named or [key for key in by_position if key in same] or same or by_position
            if choice:
                names[name] = choice[0]
        return names

    def as_arguments(self, given: Tensors) -> Tensors:
        """Changed inputs of the artifact under the reference's names, in the reference's dtypes."""
        where = self.where
        if not where.arguments:
            return {}
        names = self.names()
        changed = dict(where.arguments)
        for name, value in given.items():
            argument = names.get(name)
            if argument in changed:
                changed[argument] = value.to(changed[argument].dtype)
        return changed

    def compare_on(self, section: str, about: dict[str, Any], given: Tensors, arguments: Tensors) -> None:
        """Both sides on other inputs; nothing is said where the reference does not take them."""
        expected = None
        if self.reference is not None and arguments:
            expected, _ = attempt(lambda: self.reference(arguments))  # type: ignore[misc]
            if expected is None:
                self.emit(section, **about, reference_fails=True)
                return
        actual, failure = attempt(lambda: self.backend(given))
        if actual is None:
            self.emit(section, **about, error=failure)
        elif expected is None:
            self.emit(section, **about, shapes={name: list(value.shape) for name, value in actual.items()})
        else:
            found = compared(expected, actual, self.scales)
            fine = all(each.within(self.limits) for each in found)
            self.emit(section, **about, differences=recorded(found), within=fine)


def attempt(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """The result of a call, or None and why it failed."""
    try:
        return call(), None
    except Exception as failure:
        text = " ".join(str(failure).split())
        return None, f"{type(failure).__name__}: {text[:300]}"


def described(values: Tensors) -> list[dict[str, Any]]:
    """Names, dtypes and shapes."""
    return [{"name": name, "dtype": dtype_name(value), "dims": list(value.shape)} for name, value in values.items()]


def recorded(found: list[Difference]) -> list[dict[str, Any]]:
    """Differences as plain data."""
    return [each.record() for each in found]
