"""Personal data and secrets in one text, by the patterns of the table's scan."""

from __future__ import annotations

import re
from collections.abc import Iterator

from doctor.evidence.text_scan import PATTERNS, PERSONAL, masked

# A sign that a text must hold before the patterns of a group are tried: most texts have none.
_HINT = re.compile(r"@|\d{3}|-----BEGIN|(?i:passw|api[_-]?key|secret|token)|eyJ|gh[pousr]_|hf_|sk-")
_COMPILED = [(pattern, re.compile(pattern.expression)) for pattern in PATTERNS]


def sensitive(text: str) -> Iterator[tuple[str, bool, str]]:
    """What kinds of data a text holds: kind, whether it is personal (else a secret), and the first value, masked."""
    if not _HINT.search(text):
        return
    for pattern, expression in _COMPILED:
        found = next((match[0] for match in expression.finditer(text) if pattern.holds(match[0])), None)
        if found is not None:
            yield pattern.kind, pattern.group == PERSONAL, masked(found)
