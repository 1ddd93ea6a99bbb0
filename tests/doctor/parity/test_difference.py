"""Errors on the scale of the output, and what precision excuses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from doctor.parity import precision
from doctor.parity.difference import difference, paired, tolerance


def noisy(value, relative, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return value + relative * value.std() * torch.randn(value.shape, generator=generator)


@given(st.floats(1e-6, 1e6), st.integers(0, 50))
def test_the_scale_of_an_output_does_not_matter(scale, seed):
    value = torch.randn(64, 5, generator=torch.Generator().manual_seed(seed)) * scale
    limits = tolerance("float32")
    assert difference(value, noisy(value, 1e-6)).within(limits)
    assert not difference(value, noisy(value, 1e-2)).within(limits)


@pytest.mark.parametrize(
    ("kind", "passes", "fails"),
    [("float32", 2e-5, 1e-3), ("float16", 2e-3, 5e-2), ("bfloat16", 1e-2, 0.2), ("int8", 0.05, 0.3)],
)
def test_each_precision_has_its_own_tolerance(kind, passes, fails):
    value = torch.randn(40, 10, generator=torch.Generator().manual_seed(1))
    assert difference(value, noisy(value, passes)).within(tolerance(kind))
    assert not difference(value, noisy(value, fails)).within(tolerance(kind))


def test_a_tolerance_grows_with_the_noise_floor_and_never_without_bound():
    value = torch.randn(40, 10)
    floor = difference(value, noisy(value, 1e-3))
    assert tolerance("float32").widened(floor).rms == pytest.approx(8 * floor.rms)
    assert tolerance("float32").widened(difference(value, -value)).rms < 0.5


def test_numbers_that_are_finite_on_one_side_only_never_pass():
    value = torch.randn(4, 3)
    broken = value.clone()
    broken[0, 0] = float("nan")
    assert not difference(value, broken).within(tolerance("int4"))
    assert difference(broken, broken).within(tolerance("float32"))


def test_masks_by_infinity_and_by_the_lowest_float_are_one():
    value = torch.randn(4, 3)
    one, other = value.clone(), value.clone()
    one[:, 0], other[:, 0] = float("-inf"), torch.finfo(torch.float32).min
    assert difference(one, other).within(tolerance("float32"))


def test_whole_numbers_are_counted():
    ids = torch.arange(1000)
    near = ids.clone()
    near[:2] += 1
    assert difference(ids, near).within(tolerance("float32"))
    assert not difference(ids, ids.flip(0)).within(tolerance("float32"))


def test_axes_of_size_1_do_not_make_another_shape():
    value = torch.randn(6)
    assert difference(value, value[:, None]).within(tolerance("float32"))
    assert not difference(torch.randn(2, 3), torch.randn(3, 2)).within(tolerance("float32"))


def test_the_precision_of_weights_is_seen_in_their_values():
    weights = torch.randn(32, 32)
    per_channel = precision.rounded(weights, "int8")
    for kind, value in (
        ("float32", weights),
        ("float16", weights.half()),
        ("float16", weights.half().float()),
        ("bfloat16", weights.bfloat16().float()),
        ("int8", per_channel),
        ("int8", (weights / 0.05).round() * 0.05),
    ):
        assert precision.of_weights({"w": value, "b": torch.randn(32)}) == kind
    assert precision.of_weights({"w": weights, "mask": torch.ones(64, 64)}) == "float32"


def test_outputs_are_paired_by_name_by_position_and_by_shape():
    a, b = torch.zeros(2, 3), torch.ones(2, 5)
    assert paired({"loss": torch.tensor(0.0), "logits": b}, {"logits": b}) == [("logits", "logits")]
    assert paired({"0": a, "1": b}, {"x": a, "y": b}) == [("0", "x"), ("1", "y")]
    assert paired({"loss": torch.tensor(0.0), "logits": b, "h": a}, {"out": b}) == [("logits", "out")]
