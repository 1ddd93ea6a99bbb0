"""The differential diagnosis names the side of the fault on whole programs."""

import json

import pytest

PROGRAM = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(4096, 8)
y = ({labels}).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr={rate})
for epoch in range(8):
    for a, b in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model({inputs}), b)
        loss.backward()
        optimizer.step()
"""
SANE = {"labels": "x[:, 0] + x[:, 1] > 0", "rate": 0.1, "inputs": "a"}


@pytest.mark.parametrize(
    ("change", "side"),
    [
        ({"labels": "torch.rand(4096) > 0.5"}, "data"),
        ({"inputs": "torch.zeros_like(a)"}, "model"),
        ({"rate": 1e-7}, "optimizer"),
    ],
)
def test_the_side_of_the_fault_is_named(write_script, run_doctor, tmp_path, change, side):
    script = write_script(PROGRAM.format(**{**SANE, **change}))
    run_doctor("diagnose", script, "--isolated", "-q", "--output", "report.json")
    differential = json.loads((tmp_path / "report.json").read_text())["evidence"]["differential"]
    assert differential["side"] == side, differential


def test_a_program_that_learns_is_not_asked(write_script, run_doctor, tmp_path):
    script = write_script(PROGRAM.format(**SANE))
    run_doctor("diagnose", script, "--isolated", "-q", "--output", "report.json")
    assert "differential" not in json.loads((tmp_path / "report.json").read_text())["evidence"]
