"""What the readers collect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from doctor.evidence.artifact_contents import CodeReference, PickleStream, Problem, TensorEntry


@dataclass
class Found:
    """Tensors, problems and facts, filled by the readers one file after another."""

    tensors: list[TensorEntry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    streams: list[PickleStream] = field(default_factory=list)
    code: list[CodeReference] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    budget: int = 6 << 30  # bytes that may still be unpacked and followed: archives within archives multiply
    _told: bool = False

    def spend(self, count: int, file: str) -> bool:
        """Take from the budget; False, and a problem once, when there is none left."""
        self.budget -= count
        if self.budget < 0 and not self._told:
            self._told = True
            words = "its members unpack to, or share, more bytes than are followed here: not all was looked at"
            self.problems.append(Problem("corrupt-file", words, file))
        return self.budget >= 0
