"""Settings: defaults, `[tool.doctor]` of pyproject.toml or doctor.toml, and the command line, in this order."""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from doctor.errors import DoctorError
from doctor.findings import Severity
from doctor.policy import FailOn, GatePolicy


class Settings(BaseModel):
    """Everything that steers a diagnosis.

    `ignore` maps a selector (code, prefix, name or family) to the reason why it is ignored.
    `steps` counts optimizer steps; `timeout_s` bounds the observed run and each arm, `trial_budget_s` all trials.
    `baseline` is a file of accepted findings, `gate` the policy of the deployment gate.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True
    )

    select: tuple[str, ...] = ()
    extend_select: tuple[str, ...] = ()
    ignore: dict[str, str] = Field(default_factory=dict)
    fail_on: FailOn = "warning"
    steps: int = Field(default=80, ge=1)
    timeout_s: float = Field(default=600.0, gt=0)
    confirm: bool = True
    confirm_seeds: int = Field(default=2, ge=1)
    confirm_steps: int | None = Field(default=None, ge=4)
    trial_budget_s: float = Field(default=70.0, gt=0)
    jobs: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    rules: dict[str, dict[str, Any]] = Field(default_factory=dict)
    baseline: str | None = None
    gate: GatePolicy = GatePolicy()

    @property
    def failing_level(self) -> Severity | None:
        """The level at or above which a finding fails the run; None for never."""
        return None if self.fail_on == "never" else Severity(self.fail_on)


def load(start: Path, explicit: Path | None = None, isolated: bool = False) -> Settings:
    """Settings from the nearest configuration file at or above `start`, or from `explicit`.

    Raises DoctorError for an unreadable file, unknown keys (naming the nearest) and bad values.
    """
    if isolated:
        return Settings()
    for path in [explicit] if explicit else _candidates(start):
        table = _table(path, required=explicit is not None)
        if table is not None:
            return _validated(table, path)
    return Settings()


def changed(settings: Settings, **changes: Any) -> Settings:
    """These settings with those of the changes that are not None."""
    kept = {key: value for key, value in changes.items() if value is not None}
    try:
        return Settings.model_validate({**settings.model_dump(), **kept})
    except ValidationError as failure:
        raise _explained(failure, "command line") from None


def at_gate(settings: Settings) -> Settings:
    """The settings with the gate's policy in force: its selection, its failing level, its limits of size and format."""
    policy = settings.gate
    rules = {code: dict(values) for code, values in settings.rules.items()}
    asked = list(settings.extend_select)
    for code, limit, value in (("FIL007", "max_bytes", policy.max_size), ("FIL008", "formats", policy.formats)):
        if value:
            rules.setdefault(code, {})[limit] = value
            asked.append(code)  # what the policy asks for is looked at whatever else is selected
    return changed(
        settings,
        rules=rules,
        extend_select=tuple(asked),
        select=policy.select or None,
        ignore={**settings.ignore, **policy.ignore},
        fail_on=policy.fail_on,
    )


def _candidates(start: Path) -> list[Path]:
    folder = start if start.is_dir() else start.parent
    return [
        parent / name
        for parent in [folder.resolve(), *folder.resolve().parents]
        for name in ("doctor.toml", "pyproject.toml")
    ]


def _table(path: Path, required: bool) -> dict[str, Any] | None:
    if not path.is_file():
        if required:
            raise DoctorError(f"no configuration file {path}", "give an existing doctor.toml or pyproject.toml")
        return None
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise DoctorError(f"{path} is not valid TOML: {failure}") from None
    if path.name == "pyproject.toml":
        found: dict[str, Any] | None = content.get("tool", {}).get("doctor")
        return found
    return content


def _validated(table: dict[str, Any], path: Path) -> Settings:
    table = dict(table)
    if isinstance(table.get("gate"), dict):
        table["gate"] = dict(table["gate"])
    for part in (table, table.get("gate")):
        if isinstance(part, dict) and isinstance(part.get("ignore"), list):
            part["ignore"] = dict.fromkeys(part["ignore"], "no reason given")
    if isinstance(table.get("baseline"), str):  # beside the file that names it, wherever the command is run
        table["baseline"] = str(path.parent / table["baseline"])
    try:
        return Settings.model_validate(table)
    except ValidationError as failure:
        raise _explained(failure, str(path)) from None


def _explained(failure: ValidationError, where: str) -> DoctorError:
    first = failure.errors()[0]
    *tables, key = (str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [name.replace("_", "-") for name in (GatePolicy if tables else Settings).model_fields]
        near = get_close_matches(key, known, n=1)
        return DoctorError(
            f'{where} [{".".join(("tool.doctor", *tables))}]: unknown key "{key}"'
            + (f'; did you mean "{near[0]}"?' if near else ""),
            f"known: {', '.join(known)}",
        )
    return DoctorError(f"{where}: {'.'.join((*tables, key))}: {first['msg'].removeprefix('Value error, ')}")
