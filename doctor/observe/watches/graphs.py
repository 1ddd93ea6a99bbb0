"""Batches of several graphs: whether the edges of each graph stay with its own nodes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import dataloader

from doctor.observe.watch import Watch

_MOST_BATCHES = 6
_MOST_EDGES = 2_000_000


class GraphWatch(Watch):
    """Of a model that is given nodes, edges and the graph of each node, which graphs the edges touch and which they join."""

    def install(self) -> None:
        """Around the iteration of loaders: the function that makes their batches."""
        self._found: list[dict[str, Any]] = []
        self._examined = 0
        self._line: Any = None
        self._collate: Any = None
        self._pending: dict[str, Any] | None = None
        self.recorder.patches.wrap(dataloader._BaseDataLoaderIter, "__init__", self._iterating)

    def _iterating(self, original: Any, iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        original(iterator, loader, *args, **kwargs)
        self._collate = loader.collate_fn

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count."""
        self._pending = None
        if self._examined < _MOST_BATCHES and module.training:
            self._pending = _examined(list(_tensors((*args, *kwargs.values()))))
            self._examined += self._pending is not None

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A model of graphs has an output for each of them."""
        found, self._pending = self._pending, None
        if found is not None and isinstance(result, torch.Tensor) and result.dim() and len(result) == found["graphs"]:
            self._found.append(found)
            self._line = self._line or self.recorder.frames.line()

    def finish(self) -> None:
        """One event."""
        if self._found:
            self.recorder.stream.emit("graph-batches", batches=self._found, line=self._joined() or self._line)

    def _joined(self) -> Any:
        """The line of the user's own collate function on which edges are put together."""
        try:
            path = self.recorder.frames.name(inspect.getsourcefile(self._collate) or "<none>")
            text, start = inspect.getsourcelines(self._collate)
        except (OSError, TypeError):
            return None
        joins = [n for n, line in enumerate(text) if re.search(r"append|extend|\+=|cat\(|concat|stack", line)]
        edges = [n for n in joins if re.search(r"edge|adj", text[n], re.IGNORECASE)]
        return [path, start + (edges or [0])[0], self._collate.__name__] if path is not None else None


def _tensors(values: tuple[Any, ...]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(getattr(value, "edge_index", None), torch.Tensor):  # the batches of PyTorch Geometric
            yield from _tensors((value.edge_index, getattr(value, "x", None), getattr(value, "batch", None)))


def _examined(tensors: list[torch.Tensor]) -> dict[str, Any] | None:
    """Of `(2, edges)` node ids and `(nodes,)` graph ids in order; None where there are none, or fewer than four graphs."""
    whole = [t for t in tensors if t.dtype in (torch.int64, torch.int32) and t.numel()]
    edges = next((t for t in whole if t.dim() == 2 and t.shape[0] == 2 and 8 <= t.shape[1] <= _MOST_EDGES), None)
    rows = {len(t) for t in tensors if t.is_floating_point() and t.dim() >= 2}
    for member in whole:
        if edges is None or member.dim() != 1 or len(member) not in rows:
            continue
        graphs = int(member[-1]) + 1
        in_order = int(member[0]) == 0 and bool((member[1:] >= member[:-1]).all())
        if (
            not in_order
            or not 4 <= graphs <= len(member) // 2
            or int(edges.min()) < 0
            or int(edges.max()) >= len(member)
        ):
            continue
        ends = member[edges.long()]
        return {
            "graphs": graphs, "touched": len(torch.unique(ends)),
            "joining": float((ends[0] != ends[1]).double().mean()),
        }  # fmt: skip
    return None
