"""Libraries that are imported when something of them is first used: rules are listed and explained without them."""

from __future__ import annotations

import importlib
from typing import Any


class _Library:
    """Stands for a module until one of its attributes is asked for; each is looked up once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self._name), name)
        setattr(self, name, found)
        return found


numpy = _Library("numpy")
