"""Losses over more pairs than there are predictions."""

import pytest

from doctor.evidence.base import Source
from doctor.evidence.loss_calls import LossCall, LossCalls
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.testing import findings_of

HERE = Source("train.py", 7)


def judged(one, other, function="mse_loss"):
    return findings_of("LOS004", LossCalls((LossCall(function, HERE, one, other, "float32"),)))


@pytest.mark.parametrize(
    ("one", "other"), [((32, 1), (32,)), ((32,), (32, 1)), ((64, 8, 8), (64, 1, 8, 8)), ((16, 1, 9), (16, 9))]
)
def test_shapes_that_grow_when_compared_fire(one, other):
    (finding,) = judged(one, other)
    assert (finding.name, finding.location.line) == ("broadcast-loss", 7)
    assert f"{one[0]} x {one[0]} pairs" in finding.message


@pytest.mark.parametrize(
    ("one", "other"),
    [((32, 1), (32, 1)), ((64, 1, 8, 8), (8, 8)), ((16, 9), (9,)), ((1, 16, 9), (16, 9)), ((32, 5), (5,))],
)
def test_equal_shapes_and_one_target_for_all_are_silent(one, other):
    assert not judged(one, other)


@pytest.mark.parametrize(("shape", "words"), [("8, 8", "8 x 8 predictions meet 8 targets"), ("8, 1", "shape (8)")])
def test_a_loss_that_refuses_such_shapes_names_them(shape, words):
    text = f"Target size (torch.Size([8])) must be the same as input size (torch.Size([{shape}]))"
    run = ProgramRun("crashed", crash=Crash("ValueError", text, HERE))
    (finding,) = findings_of("ARC001", run)
    assert words in finding.message
    assert "broadcast-loss" in finding.faults


def test_predictions_of_every_pair_are_told_for_one_target_each():
    (finding,) = judged((32, 32), (32,))
    assert "32 x 32 pairs" in finding.message
    assert not judged((32, 16), (32,))
    assert not judged((3, 3), (3,))  # a matrix and a vector
