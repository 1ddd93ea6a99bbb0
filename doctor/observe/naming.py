"""Names of modules and parameters: which roots exist, and what path everything has below them."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from doctor.observe.frames import Line

_MOST_HELD = 16  # roots that are kept alive until the report, so that those of a finished function can be told of

_SETTINGS = (
    "in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "groups", "bias", "p", "eps",
    "momentum", "dim", "num_features", "normalized_shape", "num_embeddings", "embedding_dim", "padding_idx", "inplace",
    "hidden_size", "input_size", "num_layers", "bidirectional", "batch_first", "dropout", "num_heads", "embed_dim",
    "affine", "track_running_stats", "negative_slope",
)  # fmt: skip


class Naming:
    """All living modules by the order of their creation, and the paths that follow from who holds whom."""

    def __init__(self) -> None:
        self.created: dict[int, tuple[weakref.ref[nn.Module], Line | None, Line | None]] = {}
        self.roots: list[weakref.ref[nn.Module]] = []
        self._root_of: dict[int, int] = {}
        self._places: dict[int, tuple[int, str, weakref.ref[nn.Module]]] = {}
        self._parameters: dict[int, tuple[int, str, nn.Module]] = {}
        self._held: list[nn.Module] = []
        self._stale = True
        self.version = 0  # changes with the names

    def add(self, module: nn.Module, line: Line | None, wanted: Line | None = None) -> None:
        """Note a new module (also one that came into being without its constructor: a copy, an unpickled one).

        `wanted` is the line of a constructor that calls the function in which `line` stands.
        """
        key = id(module)
        self.created[key] = (weakref.ref(module), line, wanted)
        self._stale = True

    def changed(self) -> None:
        """Names must be worked out anew before they are next used."""
        self._stale = True

    def place(self, module: nn.Module) -> tuple[int, str]:
        """Index of the root and path below it."""
        key = id(module)
        # Modules that are made anew in every forward (`nn.ReLU()(x)`) must not cause new names at every step.
        known = self._places.get(key)
        if known is None or known[2]() is not module:
            entry = self.created.get(key)
            if entry is None or entry[0]() is not module:
                self.add(module, None)
            self._refresh()
            known = self._places.get(key)
        return (known[0], known[1]) if known is not None else (-1, "")

    def parameter(self, tensor: torch.Tensor) -> str | None:
        """Qualified name of a registered parameter, None for any other tensor."""
        found = self.owner(tensor)
        return self._qualified(found[0], found[1]) if found else None

    def owner(self, tensor: torch.Tensor) -> tuple[int, str, nn.Module] | None:
        """Root, name below the root, and the module that registers a parameter."""
        found = self._parameters.get(id(tensor))
        if found is not None and found[2]._parameters.get(found[1].rpartition(".")[2]) is tensor:
            return found
        if self._stale:
            self._refresh()
        return self._parameters.get(id(tensor))

    def _qualified(self, root: int, name: str) -> str:
        return name if root == 0 else f"{self.root_label(root)}.{name}"

    def root_label(self, root: int) -> str:
        """How the second and later roots are told apart: `Critic#1`."""
        module = self.roots[root]() if 0 <= root < len(self.roots) else None
        return f"{type(module).__name__}#{root}" if module is not None else f"root#{root}"

    def created_line(self, module: nn.Module) -> Line | None:
        """The user's line on which a module was constructed."""
        entry = self.created.get(id(module))
        return entry[1] if entry else None

    def wanted_line(self, module: nn.Module) -> Line | None:
        """The line of a constructor that had a function make this module."""
        entry = self.created.get(id(module))
        return entry[2] if entry else None

    def live_roots(self) -> list[tuple[int, nn.Module]]:
        """Roots that still exist, by index."""
        if self._stale:
            self._refresh()
        alive = ((index, reference()) for index, reference in enumerate(self.roots))
        return [(index, module) for index, module in alive if module is not None]

    def _refresh(self) -> None:
        living: dict[int, nn.Module] = {}
        for key, (reference, *_) in list(self.created.items()):
            module = reference()
            if module is None:
                del self.created[key]
            else:
                living[key] = module
        children = {id(child) for module in living.values() for child in module._modules.values() if child is not None}
        tops = [module for key, module in living.items() if key not in children and _has_parameters(module)]
        # A root once named keeps its index, also when it becomes part of another one later.
        known = {id(module) for module in (reference() for reference in self.roots) if module is not None}
        for module in tops:
            if id(module) not in known:
                self.roots.append(weakref.ref(module))
                if len(self._held) < _MOST_HELD:
                    self._held.append(module)
        self._places, self._parameters = {}, {}
        top_ids = {id(module) for module in tops}
        order = [(i, m) for i, m in enumerate(r() for r in self.roots) if m is not None and id(m) in top_ids]
        for root, top in order:
            for path, module in top.named_modules():
                self._places.setdefault(id(module), (root, path, weakref.ref(module)))
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        full = f"{path}.{name}" if path else name
                        self._parameters.setdefault(id(parameter), (root, full, module))
        self._stale = False
        self.version += 1


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def authored(root: nn.Module, is_users_file: Callable[[str], bool]) -> set[str]:
    """Paths of the modules that the user's own code put together: those whose holder, torch's own containers passed
    over, is a class of the user's, or that nothing but such containers holds.
    """
    found: set[str] = set()
    holds: dict[str, bool] = {}
    for path, module in root.named_modules():
        above = holds.get(path.rpartition(".")[0], True) if path else True
        if above:
            found.add(path)
        library = type(module).__module__
        if library.startswith("torch."):
            holds[path] = above
        else:
            file = getattr(sys.modules.get(library), "__file__", None)
            holds[path] = file is None or is_users_file(file)
    return found


def settings(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of a module that are worth knowing."""
    found: dict[str, Any] = {}
    for name in _SETTINGS:
        value = getattr(module, name, None)
        if isinstance(value, bool | int | float | str):
            found[name] = value
        elif isinstance(value, tuple) and value and all(isinstance(part, int) for part in value):
            found[name] = "x".join(map(str, value))
    return found
