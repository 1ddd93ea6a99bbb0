"""Rows of a table are no windows, though some of their columns repeat."""

import pytest

from doctor.evidence.sample_log import SampleLog
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
ROWS
model = nn.Linear(16, 1)
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(2):
    for i in range(0, 600, 30):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[i : i + 30]), x[i : i + 30, :1]).backward()
        optimizer.step()
    with torch.no_grad():
        print(model(x[600:]).mean())
"""
TABLE = "x = torch.cat([torch.randn(800, 2), torch.eye(12)[torch.randint(0, 12, (800,))], torch.randn(800, 2)], 1)"
WINDOWS = "x = torch.randn(815).unfold(0, 16, 1)[torch.randperm(800)]"


@pytest.mark.parametrize(("rows", "windows"), [(TABLE, False), (WINDOWS, True)])
def test_pieces_count_where_they_differ(write_script, rows, windows):
    recording = ScriptProgram(write_script(PROGRAM.replace("ROWS", rows)), ()).run(Run(60))
    load()
    (group,) = gather([recording], [SampleLog])[SampleLog].evaluated
    assert (group.pieces > 0) == windows
