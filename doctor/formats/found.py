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
