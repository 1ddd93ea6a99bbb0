import pytest
import torch
from doctor.checks.architecture.scrambled_reshape import permutation_of
from torch import nn

from doctor.testing import findings_of


class TestPermutationOf:
    @pytest.mark.parametrize(
        ("parts", "shape", "order"),
        [
            ([[6], [3], [32], [32]], (6, 1024, 3), (0, 2, 3, 1)),  # an image as pixels by channels
            ([[6], [32], [8], [8]], (6, 64, 32), (0, 2, 3, 1)),  # the same where lengths divide each other
            ([[6], [9], [64]], (6, 4, 9, 16), (0, 2, 1, 3)),  # heads before time
            ([[6], [4], [9], [16]], (6, 9, 64), (0, 2, 1, 3)),  # and back
            ([[9], [6], [16]], (6, 9, 16), (1, 0, 2)),  # time first
            ([[6], [10], [7]], (42, 10), (0, 2, 1)),  # classes flattened away
        ],
    )
    def test_a_shape_that_wants_a_permutation_is_found(self, parts, shape, order):
        assert permutation_of(parts, shape).order == order

    @pytest.mark.parametrize(
        ("parts", "shape"),
        [
            ([[6], [9], [16]], (6, 9, 4, 4)),  # heads split off
            ([[6], [9], [16]], (54, 16)),  # positions joined
            ([[6], [10], [16]], (6, 5, 32)),  # frames stacked in time
            ([[9], [6], [16]], (9, 24, 4)),  # heads moved into the batch, as torch's attention does
            ([[6], [28], [28], []], (6, 1, 28, 28)),  # one grey channel
            ([[2], [8], [24], [24]], (2, 192, 24)),
        ],
    )
    def test_splits_and_joins_of_neighbours_are_views(self, parts, shape):
        assert permutation_of(parts, shape) is None


def test_fires_on_the_line_of_the_view(taped):
    conv, head = nn.Conv2d(1, 5, 3), nn.Linear(5, 2)

    def compute():
        features = conv(torch.randn(4, 1, 8, 8))
        tokens = features.view(4, 36, 5)  # here
        return head(tokens).mean()

    run = taped(compute, conv=conv, head=head)
    (finding,) = findings_of("ARC012", run.tape, run.axes)
    assert (finding.name, finding.location.line) == ("scrambled-reshape", run.here)
    assert finding.treatment.order == (0, 2, 3, 1)


def test_a_transpose_is_silent(taped):
    conv, head = nn.Conv2d(1, 5, 3), nn.Linear(5, 2)
    run = taped(lambda: head(conv(torch.randn(4, 1, 8, 8)).flatten(2).transpose(1, 2)).mean(), conv=conv, head=head)
    assert not findings_of("ARC012", run.tape, run.axes)


def test_windows_and_channel_shuffle_are_silent(taped):
    conv = nn.Conv2d(1, 6, 3, padding=1)

    def compute():
        x = conv(torch.randn(4, 1, 8, 12))
        x = x.view(4, 2, 3, 8, 12).transpose(1, 2).reshape(4, 6, 8, 12)
        x = x.view(4, 6, 2, 4, 3, 4).permute(0, 2, 4, 3, 5, 1).reshape(24, 16, 6)
        return x.view(4, 2, 3, 4, 4, 6).permute(0, 5, 1, 3, 2, 4).reshape(4, 6, 8, 12).mean()

    run = taped(compute, conv=conv)
    assert not findings_of("ARC012", run.tape, run.axes)


def test_the_shift_of_relative_positions_is_silent(taped):
    layer = nn.Linear(7, 7)

    def compute():
        scores = layer(torch.randn(2, 3, 5, 7))
        padded = nn.functional.pad(scores, (1, 0))
        return padded.view(2, 3, 8, 5)[:, :, 1:].reshape(2, 3, 5, 7).mean()

    run = taped(compute, layer=layer)
    assert not findings_of("ARC012", run.tape, run.axes)
