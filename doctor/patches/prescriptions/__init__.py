"""Which edits may cure a finding: what its rule attached, else what is known for its treatment or for its name.

Every module of this package is loaded. Needs no libcst.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator

from doctor.findings import Finding
from doctor.patches.edits import Edit

_Prescription = Callable[[Finding], Iterable[Edit]]
_KNOWN: dict[str, list[_Prescription]] = {}


def prescribes(*keys: str) -> Callable[[_Prescription], _Prescription]:
    """Declare edits for findings with a treatment of this kind, or of this name or label; the best comes first."""

    def known(prescription: _Prescription) -> _Prescription:
        for key in keys:
            _KNOWN.setdefault(key, []).append(prescription)
        return prescription

    return known


def edits_for(finding: Finding) -> Iterator[Edit]:
    """The edits that may cure a finding, each once, the best first."""
    for found in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(found.name)
    seen: set[Edit] = set()
    for edit in _all(finding):
        if edit not in seen:
            seen.add(edit)
            yield edit


def _all(finding: Finding) -> Iterator[Edit]:
    if finding.edit is not None:
        yield finding.edit
    keys = [finding.name, *([finding.treatment.kind] if finding.treatment else []), *finding.faults]
    for key in dict.fromkeys(keys):
        for prescription in _KNOWN.get(key, ()):
            yield from prescription(finding)


def chosen(finding: Finding, *names: str) -> float | None:
    """The number that a treatment carries under one of these names (`max_norm`, `value` ...)."""
    for name in names:
        value = getattr(finding.treatment, name, None)
        if isinstance(value, float | int) and not isinstance(value, bool):
            return float(value)
    return None
