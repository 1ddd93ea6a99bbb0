"""Batches of several graphs, as the model was given them."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class GraphBatch:
    """`graphs` in one batch, how many of them have an edge, and the share of edges that join two different ones."""

    graphs: int
    touched: int
    joining: float


@dataclass(frozen=True)
class GraphBatches(Evidence):
    """The first training batches; `source` is where their edges are put together, or else where the model is called."""

    batches: tuple[GraphBatch, ...] = ()
    source: Source | None = None


@probe
def graph_batches(recording: Recording) -> GraphBatches:
    """Read them."""
    event = recording.some("graph-batches", "no batches of several graphs were seen")[0]
    return GraphBatches(tuple(GraphBatch(**batch) for batch in event["batches"]), source(event["line"]))
