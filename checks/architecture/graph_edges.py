"""Edges that do not stay with the nodes of their own graph."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from doctor.evidence.graph_batches import GraphBatches
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check


class GraphEdgesLimits(Limits):
    """Thresholds of ARC025."""

    min_batches: int = 2
    touched: float = 0.5  # share of a batch's graphs that have any edge
    joining: float = 0.2  # share of the edges between two graphs


@check(
    "ARC025",
    "edges-of-other-graphs",
    Severity.ERROR,
    faq="training/architecture/incorrect",
    faults=("batch-mixing", "misaligned-labels"),
)
def edges_of_other_graphs(graphs: GraphBatches, limits: GraphEdgesLimits) -> Iterator[Finding]:
    """In a batch of several graphs the edges lie between the nodes of the wrong ones.

    ## What it measures
    For models that get nodes, edges as pairs of node numbers, and the graph of each node, and that give an output for each
    graph: how many of the graphs any edge touches, and the share of edges that join nodes of two graphs (medians over the
    first batches).
    ## Why it hurts
    Node numbers count within a graph; in the long list of a batch's nodes they must be moved by the nodes before it.
    Otherwise the edges of all graphs fall on the nodes of the first ones, and messages pass between strangers.
    ## Example
    ```python
    for x, edges in graphs:
        nodes.append(x)
        pairs.append(edges)
    ```
    ## Use instead
    ```python
    offset = 0
    for x, edges in graphs:
        nodes.append(x)
        pairs.append(edges + offset)
        offset += len(x)
    ```
    ## When it is right
    One large graph with an output for each node, and graphs most of which have no edges by nature (raise `touched`).
    ## References
    PyTorch Geometric documentation, "Advanced Mini-Batching": adjacencies are stacked along the diagonal.
    """
    if len(graphs.batches) < limits.min_batches:
        return
    touched = median(batch.touched / batch.graphs for batch in graphs.batches)
    joining = median(batch.joining for batch in graphs.batches)
    if touched >= limits.touched and joining <= limits.joining:
        return
    first = graphs.batches[0]
    place = graphs.source
    yield Finding(
        message=f"in a batch of {first.graphs} graphs the edges touch {first.touched}, and {first.joining:.0%} of them join "
        "nodes of two different graphs",
        location=Location(path=place.path, line=place.line) if place else Location(),
        measured={
            "touched": Measure(value=touched, threshold=limits.touched),
            "joining": Measure(value=joining, threshold=limits.joining),
        },
        remedy="move the node numbers of each graph by the number of nodes before it: edges + offset",
        demonstrated="node numbers of the edges against the graph of each node",
    )
