"""What an operator is, and how all of them are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.source import Edit, Source


@dataclass(frozen=True)
class Wound:
    """What an operator does to one program: its edits, and the lines on which the fault may be told."""

    edits: tuple[Edit, ...]
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """One kind of fault: `apply` says where it goes in a program, or None where it makes no sense.

    `fault` is the label of the fault, `also` holds further labels that are right answers.
    """

    name: str
    fault: str
    also: tuple[str, ...]
    family: str
    apply: Callable[[Source], Wound | None]


@dataclass(frozen=True)
class Mutant:
    """A program with one fault."""

    operator: str
    fault: str
    source: str
    lines: tuple[int, ...]
    also: tuple[str, ...] = ()


Operators = dict[str, Operator]
_KNOWN: Operators = {}


def operator(fault: str, *also: str) -> Callable[[Callable[[Source], Wound | None]], Callable[[Source], Wound | None]]:
    """Declare the function below as the operator of its name."""

    def declare(apply: Callable[[Source], Wound | None]) -> Callable[[Source], Wound | None]:
        name = apply.__name__.strip("_").replace("_", "-")
        if name in _KNOWN and _KNOWN[name].apply.__module__ != apply.__module__:
            raise ValueError(f"two operators are called {name}")
        _KNOWN[name] = Operator(name, fault, also, apply.__module__.rpartition(".")[2], apply)
        return apply

    return declare


def wound(edits: Iterable[Edit | None], lines: Iterable[int]) -> Wound | None:
    """The wound of these edits; None when there is none."""
    made = tuple(edit for edit in edits if edit is not None)
    return Wound(made, tuple(sorted(set(lines)))) if made else None


@cache
def operators() -> Operators:
    """Every operator of every module of this package, by name."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    return dict(sorted(_KNOWN.items()))


def mutants(text: str) -> Iterator[Mutant]:
    """Every fault that fits this program. A mutant differs from it, parses, and keeps the number of its lines."""
    source = Source(text)
    for one in operators().values():
        made = one.apply(source)
        if made is None:
            continue
        try:
            mutated = source.edited(made.edits)
        except (ValueError, SyntaxError) as failure:
            raise ValueError(f"{one.name}: {failure}") from failure
        if mutated == source.text:
            continue
        length = source.text.count("\n")
        if mutated.count("\n") != length:
            raise ValueError(f"{one.name} changes the number of lines")
        yield Mutant(one.name, one.fault, mutated, tuple(n for n in made.lines if n <= length), one.also)
