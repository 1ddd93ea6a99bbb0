"""Frozen embeddings: drawn at random, or learnt elsewhere."""

import torch

from doctor.evidence.frozen_weights import FrozenWeights
from doctor.evidence.recording import Recording
from doctor.observe.watches.frozen import _Tables
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram

SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
words = {table}
embed = nn.Embedding.from_pretrained(words{freeze})
model = nn.Sequential(embed, nn.Flatten(), nn.Linear(30, 2))
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
for _ in range(12):
    ids = torch.randint(0, 40, (16, 5))
    loss = nn.functional.cross_entropy(model(ids), ids[:, 0] % 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def frozen(write_script, table, freeze=""):
    script = write_script(SCRIPT.format(table=table, freeze=freeze))
    recording: Recording = ScriptProgram(script, ()).run(Run(12))
    load()
    (root,) = gather([recording], [FrozenWeights])[FrozenWeights].roots
    return root


def test_a_drawn_table_that_is_frozen_by_default_is_known_with_its_line(write_script):
    root = frozen(write_script, "torch.randn(40, 6)")
    assert (root.tables, root.table.line, root.by_default) == (("0.weight",), 6, True)


def test_who_asks_for_it_is_believed(write_script):
    assert not frozen(write_script, "torch.randn(40, 6)", ", freeze=True").by_default
    assert not frozen(write_script, "torch.randn(40, 6)", ", freeze=False").tables


def test_one_hot_rows_and_codes_are_no_drawn_table(write_script):
    assert not frozen(write_script, "torch.eye(40, 6)").tables
    assert not frozen(write_script, "torch.sin(torch.arange(240.0)).reshape(40, 6)").tables


def test_learnt_values_have_heavier_tails():
    torch.manual_seed(1)
    for values, drawn in ((torch.randn(200, 16), True), (torch.randn(200, 16) * torch.rand(16).add(0.1).pow(2), False)):
        tables = _Tables()
        tables.add("words.weight", values, None)
        assert tables.are_drawn() == drawn
