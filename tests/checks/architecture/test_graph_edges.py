"""Batches of graphs: made by the program's own collate function, and judged."""

import torch

from doctor.evidence.base import Source
from doctor.evidence.graph_batches import GraphBatch, GraphBatches
from doctor.observe.watches.graphs import _examined
from doctor.testing import findings_of

HERE = Source("train.py", 47)


def batch(offsets):
    sizes = torch.arange(5, 13)
    nodes = torch.randn(int(sizes.sum()), 6)
    member = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    starts = torch.cumsum(sizes, 0) - sizes
    rings = [
        torch.stack([torch.arange(n), (torch.arange(n) + 1) % n]) + s * offsets
        for n, s in zip(sizes, starts, strict=True)
    ]
    return [nodes, torch.cat(rings, 1), member]


def judged(offsets):
    seen = _examined(batch(offsets))
    return findings_of("ARC025", GraphBatches((GraphBatch(**seen),) * 3, HERE))


def test_edges_without_the_offset_of_their_graph_fire_where_they_are_put_together():
    (finding,) = judged(0)
    assert (finding.level, finding.location.line) == ("error", 47)
    assert "batch-mixing" in finding.faults


def test_edges_that_stay_with_their_graph_are_silent():
    assert not judged(1)


def test_one_graph_and_ids_of_something_else_are_no_batches_of_graphs():
    nodes, edges, _ = batch(1)
    assert _examined([nodes, edges]) is None
    assert _examined([nodes, edges, torch.randint(0, 5, (len(nodes),))]) is None
    assert _examined([nodes, edges, torch.zeros(len(nodes), dtype=torch.int64)]) is None
