"""Personal data and secrets in one text, by the patterns of the table's scan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from doctor.evidence.text_scan import PATTERNS, PERSONAL, masked

# A sign that a text must hold before the patterns of a group are tried: most texts have none.
_HINT = re.compile(r"@|\d{3}|-----BEGIN|(?i:passw|api[_-]?key|secret|token)|eyJ|gh[pousr]_|hf_|sk-")
_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY.*?(?:-----END[A-Z -]*|\Z)", re.S)  # with what follows its head
_COMPILED = [(pattern, re.compile(pattern.expression)) for pattern in PATTERNS]


def sensitive(text: str) -> Iterator[tuple[str, bool, str]]:
    """What kinds of data a text holds: kind, whether it is personal (else a secret), and the first value, masked."""
    if not _HINT.search(text):
        return
    for pattern, expression in _COMPILED:
        found = next((match[0] for match in expression.finditer(text) if pattern.holds(match[0])), None)
        if found is not None:
            yield pattern.kind, pattern.group == PERSONAL, masked(found)


def redacted(text: str) -> str:
    """The text with everything that is personal or secret in it masked, so that it may be shown."""
    if not _HINT.search(text):
        return text
    text = _KEY.sub("(private key) ******", text)
    for pattern, expression in _COMPILED:

        def shown(match: re.Match[str], holds: Callable[[str], bool] = pattern.holds) -> str:
            return masked(match[0]) if holds(match[0]) else match[0]

        text = expression.sub(shown, text)
    return text
