"""For authors of rules: run one rule on evidence made by hand, without a program and without training."""

from __future__ import annotations

from typing import Any

from doctor import registry
from doctor.errors import DoctorError
from doctor.evidence.base import Evidence
from doctor.findings import Finding


def findings_of(code: str, *evidence: Evidence, **limits: Any) -> list[Finding]:
    """The findings of the rule `code`, of all its looks that this evidence suffices for, with these thresholds changed.

    Raises DoctorError when every look is skipped (a required record is missing), or one crashes.
    """
    rule = registry.rule(code, registry.load())
    found: dict[type[Evidence], Evidence] = {type(record): record for record in evidence}
    changed = {rule.code: limits} if limits else {}
    outcomes = [registry.run_one(look, found, changed) for look in rule.looks]
    ran = [outcome for outcome in outcomes if not isinstance(outcome, registry.Skip)]
    skips = [outcome for outcome in outcomes if isinstance(outcome, registry.Skip)]
    crashed = [skip for skip in skips if "crashed" in skip.reason]
    if crashed or not ran:
        raise DoctorError(f"{code} was skipped: {(crashed or skips)[0].reason}")
    return [finding for outcome in ran for finding in outcome]
