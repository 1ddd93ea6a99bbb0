"""Whether two pictures show the same thing once one is moved, scaled or turned a little."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_SIDE, _EDGE = 16, 2  # the inner 12 x 12 of 16 x 16 pixels are compared
_SCALES = (0.9, 0.95, 1.0, 1.05, 1.1)
_MOVES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # pixels of 16: up to 6 % of the picture
_TURNS = (-6.0, -3.0, 3.0, 6.0)  # degrees
_AT_ONCE = 2048


def pictures_of(thumbs: npt.NDArray[np.uint8]) -> Floats:
    """Pictures in bytes without the finest structure (noise, compression), (pictures, 16, 16, 3)."""
    found: Floats = thumbs.reshape(-1, _SIDE, _SIDE, 3).astype(np.float32)
    for axis in (1, 2):
        edges = [(0, 0)] * 4
        edges[axis] = (1, 1)
        wide = np.pad(found, edges, mode="edge")
        parts = [np.take(wide, np.arange(start, start + _SIDE), axis) for start in range(3)]
        found = ((parts[0] + 2 * parts[1] + parts[2]) / 4).astype(np.float32)
    return found


def coarse(pictures: Floats) -> Floats:
    """8 x 8 grey values of unit length without their mean: what finds candidates. (pictures, 64)."""
    small = pictures.mean(3).reshape(-1, 8, 2, 8, 2).mean((2, 4))
    for axis in (1, 2):
        small = (np.roll(small, 1, axis) + 2 * small + np.roll(small, -1, axis)) / 4
    return _unit(small.reshape(len(pictures), -1))


def aligned_distance(queries: Floats, references: Floats) -> Floats:
    """For each pair of pictures the least distance over small movements, scales and turns of the first: of inner parts of
    unit length without their mean. Both of shape (pairs, 16, 16, 3), the result (pairs,).
    """
    out = np.full(len(queries), np.inf, np.float32)
    for start in range(0, len(queries), _AT_ONCE):
        block = queries[start : start + _AT_ONCE].reshape(-1, _SIDE * _SIDE, 3)
        inner = references[start : start + _AT_ONCE, _EDGE:-_EDGE, _EDGE:-_EDGE]
        fixed = _unit(inner.reshape(len(block), -1))
        best = np.full(len(block), -1.0, np.float32)
        for places, weights in _transforms():
            moved = sum(block[:, place] * weight[:, None] for place, weight in zip(places, weights, strict=True))
            best = np.maximum(best, (_unit(moved.reshape(len(block), -1)) * fixed).sum(1))
        out[start : start + len(block)] = np.sqrt(np.maximum(2 - 2 * best, 0))
    return out


@lru_cache(maxsize=1)
def _transforms() -> list[tuple[Ints, Floats]]:
    """For each movement the four pixels that every inner pixel is mixed from, and their weights: (4, 144) each."""
    centre = (_SIDE - 1) / 2
    down, right = np.mgrid[_EDGE : _SIDE - _EDGE, _EDGE : _SIDE - _EDGE].reshape(2, -1) - centre
    plans = [(scale, dy, dx, 0.0) for scale in _SCALES for dy in _MOVES for dx in _MOVES]
    plans += [(scale, 0.0, 0.0, turn) for scale in (0.95, 1.0, 1.05) for turn in _TURNS]
    found = []
    for scale, dy, dx, turn in plans:
        angle = np.deg2rad(turn)
        y = np.clip(scale * (down * np.cos(angle) - right * np.sin(angle)) + dy + centre, 0, _SIDE - 1.001)
        x = np.clip(scale * (down * np.sin(angle) + right * np.cos(angle)) + dx + centre, 0, _SIDE - 1.001)
        top, left = y.astype(int), x.astype(int)
        v, u = y - top, x - left
        places = np.stack([(top + a) * _SIDE + left + b for a in (0, 1) for b in (0, 1)])
        weights = np.stack([(v if a else 1 - v) * (u if b else 1 - u) for a in (0, 1) for b in (0, 1)])
        found.append((places, weights.astype(np.float32)))
    return found


def _unit(values: Floats) -> Floats:
    centred = values - values.mean(1, keepdims=True)
    found: Floats = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return found
