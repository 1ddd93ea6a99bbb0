"""Outputs and targets that are flattened in different orders."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from doctor.testing import findings_of

X = torch.randn(6, 5, 4)
Y = torch.randint(0, 3, (6, 5))


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (lambda out, y: (out.reshape(-1, 3), y.t().reshape(-1)), True),
        (lambda out, y: (out.transpose(0, 1).reshape(-1, 3), y.reshape(-1)), True),
        (lambda out, y: (out.reshape(-1, 3), y.reshape(-1)), False),
        (lambda out, y: (out.transpose(0, 1).reshape(-1, 3), y.t().reshape(-1)), False),
        (lambda out, y: (out.permute(0, 2, 1), y), False),
    ],
)
def test_the_order_of_samples_and_steps(taped, order, found):
    layer = nn.Linear(4, 3)

    def compute():
        logits, labels = order(layer(X), Y)
        return F.cross_entropy(logits, labels)

    run = taped(compute, layer=layer)
    findings = findings_of("DAT012", run.tape, run.axes)
    assert bool(findings) == found
    if found:
        assert "6 x 5" in findings[0].message
        assert "5 x 6" in findings[0].message
