"""Signs of damage in a text: wrong decoding, lost characters, endless repetition."""

from __future__ import annotations

import re
import zlib

# The first byte of a two- or three-byte UTF-8 sequence, read as Windows-1252 or Latin-1, and what can follow it.
_SUSPECT = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019"
    "\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]{1,3}"
)
_LOST = "\ufffd"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def damage(text: str) -> str | None:
    """What is wrong with the characters; None for a sound text."""
    if text.isascii():
        return "control characters" if _CONTROL.search(text) else None
    if _LOST in text:
        return "characters lost in decoding (U+FFFD)"
    for found in _SUSPECT.finditer(text):
        meant = _decoded(found[0])
        if meant is not None:
            return f"UTF-8 read as another encoding ({found[0]!r} for {meant!r})"
    return "control characters" if _CONTROL.search(text) else None


def _decoded(run: str) -> str | None:
    """What a run of characters says when the wrong decoding is undone; None when it was none."""
    raw = b""
    for letter in run:
        try:
            raw += letter.encode("cp1252")
        except UnicodeEncodeError:
            if ord(letter) > 0xFF:
                return None
            raw += bytes((ord(letter),))
    for length in range(len(raw), 1, -1):
        try:
            text = raw[:length].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return text if len(text) == 1 else text[0]
    return None


def endless(text: str) -> bool:
    """Whether a text says the same again and again: it packs to less than a twelfth of its length."""
    raw = text.encode("utf-8", "replace")
    return len(raw) >= 200 and len(zlib.compress(raw, 6)) * 12 < len(raw)
