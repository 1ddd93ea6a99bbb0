"""The treatment that is an edit: the program runs with other files."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Treatment


class RunEdited(Treatment):
    """Run the program with this text in place of what these (real) paths hold on disk."""

    kind: ClassVar[str] = "run-edited"
    files: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return "the patched source"
