"""The JSON report: the contract that other tools read."""

from __future__ import annotations

import json
import math
from typing import Any

from doctor.report import Report


def render(report: Report, indent: int | None = 2) -> str:
    """The report as JSON; numbers that JSON has no form for become null."""
    return json.dumps(_sound(document(report)), indent=indent, allow_nan=False)


def document(report: Report) -> dict[str, Any]:
    """The report as plain values, with each finding's fingerprint and the words of its treatment."""
    raw = report.model_dump(mode="python")
    for finding, found in zip(report.findings, raw["findings"], strict=True):
        found["fingerprint"] = finding.fingerprint
        found["treatment"] = finding.treatment.describe() if finding.treatment else None
        found.pop("demonstrated")
        found.pop("edit")
    return raw


def schema() -> str:
    """The JSON schema of the report."""
    model = Report.model_json_schema(mode="serialization")
    finding = model["$defs"]["Finding"]
    finding["properties"]["fingerprint"] = {"type": "string", "description": "Stable: no numbers, no line numbers."}
    finding["properties"]["treatment"] = {"type": ["string", "null"]}
    for internal in ("demonstrated", "edit"):
        finding["properties"].pop(internal)
        if internal in finding.get("required", []):
            finding["required"].remove(internal)
    _allow_null_numbers(model)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **model}, indent=2)


def _sound(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _sound(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_sound(inner) for inner in value]
    return value


def _allow_null_numbers(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "number":
            node["type"] = ["number", "null"]
        for inner in node.values():
            _allow_null_numbers(inner)
    elif isinstance(node, list):
        for inner in node:
            _allow_null_numbers(inner)
