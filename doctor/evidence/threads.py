"""Threads of numerical libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Small models are faster on one thread than on many."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
