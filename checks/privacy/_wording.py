"""Kinds of data in a sentence."""

from __future__ import annotations


def with_article(kind: str) -> str:
    """`an e-mail address`, `an IBAN`, `a US social security number`."""
    return f"{'an' if kind[:1] in 'aeioAI' else 'a'} {kind}"
