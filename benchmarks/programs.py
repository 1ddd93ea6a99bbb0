"""The patients of `fixtures/`: programs with their truth, whole and mutated."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.operators import Mutant, mutants

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
EQUIVALENTS = Path(__file__).resolve().parent / "equivalents.toml"


@dataclass(frozen=True)
class Program:
    """One program and what is wrong with it: `fault` is "none" for a healthy one."""

    path: Path
    fault: str
    lines: tuple[int, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Folder and file."""
        return f"{self.path.parent.name}/{self.path.stem}"


def patients(names: Sequence[str] = ()) -> list[Program]:
    """Every program of `fixtures/` whose path holds one of the names."""
    found = []
    for table in sorted(FIXTURES.glob("*/patients.toml")):
        for truth in tomllib.loads(table.read_text()).get("patient", ()):
            path = table.parent / truth["file"]
            if path.suffix == ".py" and (not names or any(name in str(path) for name in names)):
                found.append(_program(path, truth))
    return found


def _program(path: Path, truth: dict[str, Any]) -> Program:
    return Program(path, truth["fault"], tuple(truth.get("lines", ())), tuple(truth.get("also", ())))


def healthy(names: Sequence[str] = ()) -> list[Program]:
    """Those with nothing wrong."""
    return [program for program in patients(names) if program.fault == "none"]


@dataclass(frozen=True)
class Specimen:
    """One mutant of one program."""

    program: Program
    mutant: Mutant

    @property
    def name(self) -> str:
        """Program and operator."""
        return f"{self.program.name}+{self.mutant.operator}"

    @property
    def rank(self) -> str:
        """A place in an order that is random and always the same."""
        return hashlib.sha256(self.name.encode()).hexdigest()


def specimens(names: Sequence[str] = (), operators: Sequence[str] = ()) -> list[Specimen]:
    """Every mutant of every healthy program but those known to be no fault, in random order that is always the same."""
    harmless = equivalents()
    found = [
        Specimen(program, mutant)
        for program in healthy(names)
        for mutant in mutants(program.path.read_text())
        if not operators or any(mutant.operator == name or mutant.fault == name for name in operators)
    ]
    return sorted((s for s in found if not _is_harmless(s, harmless)), key=lambda s: s.rank)


def sample(found: Sequence[Specimen], size: int) -> list[Specimen]:
    """So many of them, taking one of each operator in turn, so that no common operator crowds out the rare ones."""
    turns: dict[str, int] = {}
    order = []
    for specimen in sorted(found, key=lambda s: s.rank):
        turn = turns.get(specimen.mutant.operator, 0)
        turns[specimen.mutant.operator] = turn + 1
        order.append((turn, specimen.rank, specimen))
    return [specimen for _, _, specimen in sorted(order, key=lambda entry: entry[:2])[:size]]


@cache
def equivalents() -> dict[tuple[str, str], str]:
    """Pairs of operator and program ("*": any) that were found to be no fault, and why."""
    table = tomllib.loads(EQUIVALENTS.read_text()) if EQUIVALENTS.exists() else {}
    return {(e["operator"], program): e["why"] for e in table.get("equivalent", ()) for program in e["programs"]}


def _is_harmless(specimen: Specimen, known: dict[tuple[str, str], str]) -> bool:
    operator = specimen.mutant.operator
    return (operator, specimen.program.name) in known or (operator, "*") in known


@contextmanager
def written(specimen: Specimen) -> Iterator[Program]:
    """The mutant as a program in a copy of its folder."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        home = specimen.program.path.parent
        copy = Path(folder) / home.name
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
        path = copy / specimen.program.path.name
        path.write_text(specimen.mutant.source)
        mutant = specimen.mutant
        yield Program(path, mutant.fault, mutant.lines, mutant.also)
