"""Words and pairs of words as a vector of fixed length."""

from __future__ import annotations

import itertools
import re
import zlib

import numpy as np
import numpy.typing as npt

LENGTH = 1024


def hashed_words(text: str) -> npt.NDArray[np.float32]:
    """Signed counts of hashed words and pairs of words (square roots, unit length), shape (1024,)."""
    words = re.findall(r"\w+", text.lower())
    pieces = [*words, *(f"{one} {other}" for one, other in itertools.pairwise(words))]
    codes = np.fromiter((zlib.crc32(piece.encode()) for piece in pieces), np.int64, len(pieces))
    signs = np.where(codes & 1, 1.0, -1.0)
    counts = np.bincount((codes >> 1) % LENGTH, signs, LENGTH)
    vector = np.sign(counts) * np.sqrt(np.abs(counts))
    unit: npt.NDArray[np.float32] = (vector / (np.linalg.norm(vector) + 1e-9)).astype(np.float32)
    return unit
