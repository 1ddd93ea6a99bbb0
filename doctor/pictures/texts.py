"""Texts as they may be shown: short, on one line, with personal data and secrets masked."""

from __future__ import annotations

from doctor.pictures.records import LONGEST_TEXT
from doctor.samples.sensitive import redacted


def excerpt(text: str, longest: int = LONGEST_TEXT) -> str:
    """The beginning of a text, masked (before it is cut: half a card number is one, too)."""
    shown = " ".join(redacted(text[: 20 * longest]).split())
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
