"""Replaced attributes, so that they can all be put back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Patches:
    """A stack of replaced attributes."""

    def __init__(self) -> None:
        self._saved: list[tuple[Any, str, Any]] = []

    def wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Replace `owner.name` by a function that calls `around(original, *args, **kwargs)`."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        self.set(owner, name, wrapper)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace `owner.name` by a value."""
        self._saved.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back, last first."""
        while self._saved:
            owner, name, value = self._saved.pop()
            setattr(owner, name, value)
