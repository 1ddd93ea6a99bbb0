"""Findings of one cause, grouped: what a rule says again, and what follows from a fault that another rule names."""

from __future__ import annotations

from collections.abc import Sequence

from doctor.findings import Finding, Severity


def grouped(findings: Sequence[Finding], *, repeats: bool = True) -> tuple[Finding, ...]:
    """The findings in the same order, `caused_by` filled in; those of level info stand for themselves.

    A finding follows from another rule's whose first fault is among its `follows_from`, else (with `repeats`) from the
    first of its own rule.
    """
    cause: dict[int, int] = {}
    loud = [i for i, finding in enumerate(findings) if finding.level is not Severity.INFO]
    for i in loud:
        others = [j for j in loud if findings[j].rule != findings[i].rule]
        labels = findings[i].follows_from
        fits = [j for j in others if findings[j].faults[:1] and findings[j].faults[0] in labels]
        found = next((j for j in fits if _root(j, cause) != i), None)
        if found is not None:
            cause[i] = found
    for i in loud if repeats else ():
        first = next(j for j in loud if findings[j].rule == findings[i].rule)
        if i not in cause and _root(first, cause) != i:
            cause[i] = first
    roots = {i: _root(i, cause) for i in cause}
    return tuple(f.revised(caused_by=roots[i]) if i in roots else f for i, f in enumerate(findings))


def _root(index: int, cause: dict[int, int]) -> int:
    while index in cause:
        index = cause[index]
    return index
