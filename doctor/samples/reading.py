"""Reading many files at once, in order, with few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from doctor.progress import Progress

_T = TypeVar("_T")
_R = TypeVar("_R")

# Features are for reference models, which learn nothing more from more samples.
MOST_FEATURES = 20_000


def each(function: Callable[[_T], _R], work: Iterable[_T], progress: Progress, jobs: int | None = None) -> Iterator[_R]:
    """The results of `function` in the order of `work`, computed by threads (decoders release the interpreter's lock).

    At most a few results a thread wait to be taken.
    """
    jobs = jobs or min(os.cpu_count() or 1, 16)
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[_R]] = deque()
        done = 0
        for item in work:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 8 * jobs:
                yield waiting.popleft().result()
                done += 1
                if done % 8 == 0:
                    progress.advance(done)
        while waiting:
            yield waiting.popleft().result()
            done += 1
            if done % 8 == 0:
                progress.advance(done)
        progress.advance(done)


def digest(*parts: bytes | memoryview) -> bytes:
    """128 bits of the contents."""
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.digest()


class Numbering:
    """Equal keys get equal numbers, in order of appearance; None gets -1."""

    def __init__(self) -> None:
        self._known: dict[Any, int] = {}

    def __call__(self, key: Any) -> int:
        """The number of a key."""
        return -1 if key is None else self._known.setdefault(key, len(self._known))

    @property
    def keys(self) -> tuple[Any, ...]:
        """The keys by number."""
        return tuple(self._known)


def numbers(values: Iterable[int]) -> npt.NDArray[np.int64]:
    """As an array."""
    return np.fromiter(values, dtype=np.int64)


def chosen(count: int, most: int = MOST_FEATURES) -> npt.NDArray[np.int64]:
    """Indices of the samples whose features are kept: all, or a random part that is the same every time."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
