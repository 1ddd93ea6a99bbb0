"""For authors of rules: run one rule on evidence made by hand, without a program and without training."""

from __future__ import annotations

from typing import Any

from doctor import registry
from doctor.errors import DoctorError
from doctor.evidence.base import Evidence
from doctor.findings import Finding


def findings_of(code: str, *evidence: Evidence, **limits: Any) -> list[Finding]:
    """The findings of the rule `code` on this evidence, with these thresholds changed.

    Raises DoctorError when the rule is skipped (a required record is missing) or crashes.
    """
    rule = registry.rule(code, registry.load())
    found: dict[type[Evidence], Evidence] = {type(record): record for record in evidence}
    outcome = registry.run_one(rule, found, {rule.code: limits} if limits else {})
    if isinstance(outcome, registry.Skip):
        raise DoctorError(f"{code} was skipped: {outcome.reason}")
    return outcome
