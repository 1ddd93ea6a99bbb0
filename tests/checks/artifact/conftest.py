import pytest

from doctor.gate import gate
from doctor.report import Report


@pytest.fixture
def judge():
    """Judge a file; give the report, with no rule crashed."""

    def run(path, **options) -> Report:
        report = gate(str(path), **options)
        assert not [skip for skip in report.skipped if "crashed" in skip.reason]
        return report

    return run


@pytest.fixture
def net():
    """A small network with weights as after training: nothing at its initial values."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 20), nn.LayerNorm(20), nn.Linear(20, 4)
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    x, y = torch.randn(64, 20), torch.randint(0, 4, (64,))
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.optimizer_state = optimizer.state_dict()
    return model.eval()
