"""Nearest neighbours among many samples: vectors by blocks of products, sketches of texts by agreeing bands."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_BLOCK = 1024
_ROWS = 3  # values of a band of a sketch: a similarity of 0.6 agrees in one of 42 bands nearly always
_CROWD = 200  # samples in one bucket: it is what all texts have in common


def nearest(queries: Floats, references: Floats, apart: Ints | None = None) -> tuple[Ints, Floats]:
    """For each query the nearest reference and its Euclidean distance; rows are compared as they are.

    With `apart`, query i is reference `apart[i]`, which does not count. Shapes (n, d) and (m, d), results (n,).
    """
    where = np.full(len(queries), -1, np.int64)
    distance = np.full(len(queries), np.inf, np.float32)
    if not len(references):
        return where, distance
    norms = np.einsum("ij,ij->i", references, references)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        squared = norms - 2 * block @ references.T
        rows = np.arange(len(block))
        if apart is not None:
            squared[rows, apart[start : start + _BLOCK]] = np.inf
        best = squared.argmin(1)
        where[start : start + len(block)] = best
        exact = ((block - references[best]) ** 2).sum(1)  # the expansion loses small distances to rounding
        distance[start : start + len(block)] = np.where(np.isinf(squared[rows, best]), np.inf, np.sqrt(exact))
    return where, distance


def nearest_few(queries: Floats, references: Floats, few: int, apart: Ints | None = None) -> Ints:
    """For each query the `few` nearest references, (n, few); fewer where there are fewer."""
    few = min(few, len(references) - (apart is not None))
    found = np.zeros((len(queries), max(few, 0)), np.int64)
    if few < 1:
        return found
    norms = np.einsum("ij,ij->i", references, references)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        squared = norms - 2 * block @ references.T
        if apart is not None:
            squared[np.arange(len(block)), apart[start : start + _BLOCK]] = np.inf
        found[start : start + len(block)] = np.argpartition(squared, few - 1, axis=1)[:, :few]
    return found


def nearest_sketches(
    queries: npt.NDArray[np.uint32], references: npt.NDArray[np.uint32], apart: Ints | None = None
) -> tuple[Ints, Floats]:
    """The same for sketches of texts; the distance is 1 less the estimated overlap, 1 where no band agrees."""
    where = np.full(len(queries), -1, np.int64)
    distance = np.ones(len(queries), np.float32)
    bands = queries.shape[1] // _ROWS
    for band in range(bands):
        columns = slice(band * _ROWS, (band + 1) * _ROWS)
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for index, key in enumerate(_keys(references[:, columns])):
            buckets[key].append(index)
        for index, key in enumerate(_keys(queries[:, columns])):
            found = buckets.get(key)
            if not found:
                continue
            near = np.array(found[:_CROWD])
            if apart is not None:
                near = near[near != apart[index]]
            if not len(near) or distance[index] == 0:
                continue
            far = 1 - (references[near] == queries[index]).mean(1)
            best = int(far.argmin())
            if far[best] < distance[index]:
                where[index], distance[index] = near[best], far[best]
    return where, distance


def _keys(values: npt.NDArray[np.uint32]) -> list[bytes]:
    rows = np.ascontiguousarray(values)
    width = rows.shape[1] * rows.itemsize
    raw = rows.tobytes()
    return [raw[start : start + width] for start in range(0, len(raw), width)]
