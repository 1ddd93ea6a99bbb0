"""The order of the findings: the most probable root cause first, its symptoms behind it."""

from __future__ import annotations

from collections.abc import Sequence

from doctor.findings import Finding, Nature, Severity, Verdict

# On which side of the differential diagnosis a family stands; gradients and evaluation may be on any.
_SIDES = {"data": "data", "architecture": "model", "loss": "model", "parameters": "model", "optimizer": "optimizer"}
_VERDICTS = {Verdict.CONFIRMED: 0, Verdict.UNTESTED: 1, Verdict.INCONCLUSIVE: 2, Verdict.REFUTED: 3}


def prior(finding: Finding) -> tuple[int, ...]:
    """Order before any trial: crashes, then mistakes (those that were observed first), conditions, outcomes.

    An observed rate or gradient may follow from a mistake, and a mistake never from them: it is cured first.
    """
    return (finding.level is Severity.INFO, finding.nature.rank, finding.demonstrated is None, finding.level.rank)


def off_side(finding: Finding, side: str) -> bool:
    """Whether the differential diagnosis puts the fault on another side than this finding's."""
    own = _SIDES.get(finding.family)
    return side in _SIDES.values() and own is not None and own != side


def _order(finding: Finding, symptoms: int, side: str) -> tuple[float, ...]:
    effect = finding.effect.size if finding.effect is not None and finding.effect.size is not None else 0.0
    proven = finding.verdict is Verdict.CONFIRMED and effect > 0
    verdict = _VERDICTS[finding.verdict]
    if finding.verdict is Verdict.UNTESTED and finding.demonstrated:
        verdict = 0
    return (
        finding.level is Severity.INFO,
        finding.nature is not Nature.CRASH,
        Severity.ERROR.rank if proven else finding.level.rank,
        finding.verdict is not Verdict.CONFIRMED and off_side(finding, side),
        finding.nature.rank,
        verdict,
        -symptoms,
        -effect,
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
