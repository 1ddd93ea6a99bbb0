"""What every treatment is: plain data."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Treatment(BaseModel):
    """One intervention on the program. Subclasses set `kind` and say in `describe` what is changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    kind: ClassVar[str] = ""

    def describe(self) -> str:
        """The change in plain words, as it stands in the report."""
        raise NotImplementedError

    def plan(self) -> dict[str, object]:
        """What the observed process is told: `kind` and the fields, as JSON values."""
        return {"kind": self.kind, **self.model_dump(mode="json")}


class Experiment(Treatment):
    """A direct experiment instead of a reference training: the intervention itself notes what it showed.

    Its note is a mapping with `kind` (that of the treatment), `outcome` (`confirmed`, `refuted`, `inconclusive`) and
    the fields of `doctor.findings.Effect` that it knows.
    """


class Place(BaseModel):
    """A line of the user's code; `line` 0 means anywhere in the file, an empty path anywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    path: str = ""
    line: int = 0
