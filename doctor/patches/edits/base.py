"""What every edit is: plain data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Edit(BaseModel):
    """One change of the source. It is made where the finding is, unless `path` and `line` name another place."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    path: str = ""
    line: int = 0

    def describe(self) -> str:
        """The change in plain words."""
        raise NotImplementedError
