"""The order of the findings: the most probable root cause first, its symptoms behind it."""

from __future__ import annotations

from collections.abc import Sequence

from doctor.findings import Finding, Severity, Verdict

# What only describes that training goes badly explains less than what names a mistake.
_SYMPTOMS = frozenset(
    {"lr-too-high", "lr-too-low", "vanishing-gradients", "exploding-gradients", "nan-gradients", "dead-relu"}
)
# Large gradients at the start make a sane learning rate look too high, and numbers overflow; not the other way round.
_CONSEQUENCES = frozenset({"lr-too-high", "lr-too-low"})
# On which side of the differential diagnosis a family stands; gradients and evaluation may be on any.
_SIDES = {"data": "data", "architecture": "model", "loss": "model", "parameters": "model", "optimizer": "optimizer"}
_VERDICTS = {Verdict.CONFIRMED: 0, Verdict.UNTESTED: 1, Verdict.INCONCLUSIVE: 2, Verdict.REFUTED: 3}


def prior(finding: Finding) -> tuple[int, ...]:
    """Order before any trial: crashes and demonstrated facts, then named mistakes, then symptoms."""
    crash = 0 if finding.rule.startswith("ARC001") or finding.name == "program-crash" else 1
    kind = 2 if finding.name in _SYMPTOMS else (0 if finding.demonstrated else 1)
    if finding.name in _CONSEQUENCES:
        kind = 3
    # A symptom is often the louder one: what names a mistake is tried first although it may be a warning only.
    return (
        crash if finding.level is Severity.ERROR else 1,
        finding.level is Severity.INFO,
        kind >= 2,
        finding.level.rank,
        kind,
    )


def off_side(finding: Finding, side: str) -> bool:
    """Whether the differential diagnosis puts the fault on another side than this finding's."""
    own = _SIDES.get(finding.family)
    return side in _SIDES.values() and own is not None and own != side


def _order(finding: Finding, symptoms: int, side: str) -> tuple[float, ...]:
    verdict = _VERDICTS[finding.verdict]
    if finding.verdict is Verdict.UNTESTED and finding.demonstrated:
        verdict = 0
    info = finding.level is Severity.INFO
    return (
        info,
        prior(finding)[0],
        verdict,
        finding.name in _SYMPTOMS,
        off_side(finding, side),
        finding.level.rank,
        -symptoms,
        prior(finding)[-1],
    )


def ranked(findings: Sequence[Finding], side: str = "unknown") -> tuple[Finding, ...]:
    """Causes in order, each followed by its symptoms; `caused_by` follows the new places.

    `side` is what the differential diagnosis says.
    """
    order = sorted(
        (i for i, finding in enumerate(findings) if finding.caused_by is None),
        key=lambda i: _order(findings[i], sum(other.caused_by == i for other in findings), side),
    )
    places: list[int] = []
    for cause in order:
        places.append(cause)
        places.extend(i for i, finding in enumerate(findings) if finding.caused_by == cause)
    places.extend(i for i in range(len(findings)) if i not in places)
    new = {old: position for position, old in enumerate(places)}
    result = []
    for old in places:
        cause_of = findings[old].caused_by
        result.append(findings[old].revised(caused_by=None if cause_of is None else new[cause_of]))
    return tuple(result)
