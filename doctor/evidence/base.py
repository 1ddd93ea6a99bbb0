"""What every evidence record shares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """Immutable and serialisable: numbers, strings and tuples; never a live tensor or module."""


@dataclass(frozen=True)
class Given(Evidence):
    """Evidence that a subject of one kind itself provides: the recording of a program, the source of a data set, the
    files of an artifact. Rules whose evidence comes from another kind's do not concern a subject.
    """


@dataclass(frozen=True)
class Source:
    """A line of the user's own code. `path` is relative to the working folder where it lies below it."""

    path: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"
