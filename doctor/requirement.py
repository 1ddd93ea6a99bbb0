"""Rules that must have looked: "passed, for it could not look" is no pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from doctor import registry


def not_looked(required: Collection[str], looked: Collection[str], skipped: Mapping[str, str]) -> list[str]:
    """A line for each required rule that did not look.

    `looked` are codes, `skipped` maps codes to reasons. A code or name asks for this very rule, a prefix or family only
    for those that were to look. Raises DoctorError for what names no rule.
    """
    if not required:
        return []
    lines = []
    for rule in registry.select(registry.load(), required, ()):
        if rule.code in skipped:
            lines.append(f"required rule {rule.code} was skipped: {skipped[rule.code]}")
        elif rule.code not in looked and {rule.code, rule.name} & {*required}:
            lines.append(f"required rule {rule.code} did not look: not selected, or not about such a subject")
    return lines
