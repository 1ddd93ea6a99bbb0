"""Probes: functions that obtain one kind of evidence, declared by their return type, run at most once."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from doctor.errors import DeclarationError, OutOfMemory, Unavailable
from doctor.evidence.base import Evidence

Found = Mapping[type[Evidence], "Evidence | Unavailable"]


@dataclass(frozen=True)
class Need:
    """One piece of evidence that a function asks for by the type of a parameter."""

    parameter: str
    kind: type[Evidence]
    required: bool


def needs(function: Callable[..., Any]) -> tuple[tuple[Need, ...], dict[str, Any]]:
    """The evidence that a function's parameters ask for, and its other parameters by name and type.

    `X` is required, `X | None` optional. Type hints are resolved here, hence evidence must be importable at run time.
    """
    hints = typing.get_type_hints(function)
    wanted: list[Need] = []
    others: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        hint = hints.get(name)
        options = [option for option in typing.get_args(hint) if option is not type(None)] or [hint]
        kind = options[0]
        if isinstance(kind, type) and issubclass(kind, Evidence):
            wanted.append(Need(name, kind, required=len(typing.get_args(hint)) < 2))
        else:
            others[name] = hint
    return tuple(wanted), others


@dataclass(frozen=True)
class Probe:
    """A registered probe."""

    kind: type[Evidence]
    function: Callable[..., Evidence]

    @cached_property
    def _signature(self) -> tuple[tuple[Need, ...], dict[str, Any]]:
        return needs(self.function)

    def needs(self) -> tuple[Need, ...]:
        """Evidence that this probe is computed from."""
        return self._signature[0]


_probes: dict[type[Evidence], Probe] = {}


def probe(function: Callable[..., Evidence]) -> Callable[..., Evidence]:
    """Register a probe for the evidence type that it returns. Its parameters are evidence, too."""
    kind = typing.get_type_hints(function)["return"]
    known = _probes.get(kind)
    if known is not None and known.function.__module__ != function.__module__:
        raise DeclarationError(f"{kind.__name__} has two probes: {known.function.__module__}, {function.__module__}")
    _probes[kind] = Probe(kind, function)
    return function


def registered() -> Mapping[type[Evidence], Probe]:
    """All probes by evidence type."""
    return _probes


def roots(kind: type[Evidence]) -> frozenset[type[Evidence]]:
    """The evidence that a kind is computed from in the end: what no probe makes, hence a subject must give."""
    source = _probes.get(kind)
    if source is None:
        return frozenset((kind,))
    return frozenset(root for need in source.needs() for root in roots(need.kind))


def computed_from(kind: type[Evidence]) -> frozenset[type[Evidence]]:
    """All kinds of evidence that one kind is computed from, itself among them."""
    source = _probes.get(kind)
    return frozenset((kind,)).union(*(computed_from(need.kind) for need in source.needs()) if source else ())


def gather(given: Iterable[Evidence], wanted: Iterable[type[Evidence]], known: Found | None = None) -> Found:
    """Obtain the wanted evidence, each probe at most once, in dependency order.

    `given` is what the subject itself provides (a recording), `known` what was gathered before, or was not to be had. Evidence that is not to be had is an `Unavailable`
    with the reason, and so is what depends on it.
    """
    found: dict[type[Evidence], Evidence | Unavailable] = {**(known or {}), **{type(one): one for one in given}}
    graph: dict[type[Evidence], set[type[Evidence]]] = {}
    queue = [kind for kind in wanted if kind not in found]
    while queue:
        kind = queue.pop()
        if kind in graph or kind in found:
            continue
        source = _probes.get(kind)
        graph[kind] = {need.kind for need in source.needs()} if source else set()
        queue.extend(graph[kind])
    for kind in TopologicalSorter(graph).static_order():
        if kind not in found:
            found[kind] = _obtain(kind, found)
    return found


def _obtain(kind: type[Evidence], found: Found) -> Evidence | Unavailable:
    source = _probes.get(kind)
    if source is None:
        return Unavailable(f"this subject gives no {kind.__name__}")
    arguments: dict[str, Evidence | None] = {}
    for need in source.needs():
        have = found[need.kind]
        if isinstance(have, Unavailable):
            if need.required:
                return have
            arguments[need.parameter] = None
        else:
            arguments[need.parameter] = have
    try:
        return source.function(**arguments)
    except Unavailable as reason:
        return reason
    except OutOfMemory:
        raise
    except Exception as failure:  # one record that cannot be read costs its own rules, never the diagnosis
        at = traceback.extract_tb(failure.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        return Unavailable(
            f"{kind.__name__} crashed ({type(failure).__name__}: {failure}, {where}); please report", True
        )


def load() -> None:
    """Import every module of `doctor.evidence`, so that its probes are registered."""
    from doctor import evidence

    for module in pkgutil.iter_modules(evidence.__path__, "doctor.evidence."):
        importlib.import_module(module.name)
