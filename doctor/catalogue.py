"""The rules as the user reads them: table, matrix, pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from doctor.registry import HEADINGS, Rule

QUESTIONS = (
    ("training", "data"),
    ("training", "architecture"),
    ("training", "loss"),
    ("training", "optimizer"),
    ("tuning", "optimizer settings"),
    ("tuning", "learning rate"),
    ("tuning", "gradients"),
    ("tuning", "parameters"),
    ("deployment", "model file"),
    ("deployment", "architecture"),
    ("deployment", "parameters"),
    ("deployment", "inputs and outputs"),
)
ASPECTS = ("incorrect", "missing", "duplicated")


def table(rules: Mapping[str, Rule]) -> str:
    """Code, severity, name and first sentence, one line a rule."""
    width = max((len(rule.name) for rule in rules.values()), default=0)
    lines = [f"{rule.code}  {rule.severity:<7}  {rule.name:<{width}}  {rule.summary}" for rule in rules.values()]
    return "\n".join([*lines, "", f"{len(rules)} rules; doctor explain CODE tells more of one"])


def matrix(rules: Mapping[str, Rule]) -> str:
    """The FAQ's twelve questions by the three ways in which each is asked."""
    rows = [["question", *ASPECTS]]
    for stage, question in QUESTIONS:
        cells = [f"{stage}/{question}/{aspect}" for aspect in ASPECTS]
        codes = [[rule.code for rule in rules.values() if cell in rule.faq] for cell in cells]
        rows.append([f"{stage}: {question}", *(" ".join(found) or "-" for found in codes)])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_json(rules: Mapping[str, Rule]) -> str:
    """All rules with their thresholds."""
    return json.dumps([_facts(rule) for rule in rules.values()], indent=2)


def rule_json(rule: Rule) -> str:
    """One rule with its documentation."""
    return json.dumps({**_facts(rule), "documentation": rule.docstring}, indent=2)


def page(rule: Rule, markdown: bool) -> str:
    """The documentation of one rule, with its thresholds."""
    head = f"# {rule.code} {rule.name}" if markdown else f"{rule.code} {rule.name} ({rule.severity})"
    parts = [head, "" if markdown else "=" * len(head), rule.summary]
    for heading in HEADINGS:
        text = rule.section(heading)
        if text:
            parts += ["", f"## {heading}" if markdown else heading, _plain(text) if not markdown else text]
    limits = _limits(rule)
    if limits:
        parts += ["", "## Thresholds" if markdown else "Thresholds"]
        parts += [f"{'- ' if markdown else '    '}{name} = {value}" for name, value in limits.items()]
        example = next(iter(limits.items()))
        parts += [
            f"    change one with --set {rule.code}.{example[0]}={example[1]}, or in [tool.doctor.rules.{rule.code}]"
        ]
    answers = ", ".join(rule.faults) or "-"
    parts += ["", f"faults: {answers}", f"questions: {', '.join(rule.faq) or '-'}", f"since: {rule.since}"]
    return "\n".join(parts)


def _plain(text: str) -> str:
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
            continue
        lines.append(f"    {line}" if not inside else f"        {line}")
    return "\n".join(lines)


def _limits(rule: Rule) -> dict[str, Any]:
    return {name: value for look in rule.looks if look.limits for name, value in look.limits().model_dump().items()}


def _facts(rule: Rule) -> dict[str, Any]:
    return {
        "code": rule.code,
        "name": rule.name,
        "family": rule.family,
        "severity": rule.severity,
        "faults": list(rule.faults),
        "faq": list(rule.faq),
        "summary": rule.summary,
        "since": rule.since,
        "evidence": [need.kind.__name__ for need in rule.needs],
        "limits": rule.limits.model_json_schema() if rule.limits else None,
    }
