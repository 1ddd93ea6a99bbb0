"""Verdicts follow from curves as a reader of them would say."""

import math

from hypothesis import given
from hypothesis import strategies as st

from doctor.findings import Verdict
from doctor.trials.statistics import compare, verdict

FALLING = [2.3 * 0.95**i for i in range(60)]
FLAT = [2.3 - 0.02 * math.sin(i) for i in range(60)]


def test_a_cure_that_lets_the_loss_fall_is_better():
    assert compare(FLAT, FALLING).better


def test_the_same_curve_is_no_better():
    assert verdict([compare(FALLING, FALLING)]) is Verdict.REFUTED


def test_noise_around_one_level_is_not_confirmed():
    shifted = [2.3 - 0.02 * math.sin(i + 2) for i in range(60)]
    assert verdict([compare(FLAT, shifted)]) is not Verdict.CONFIRMED


def test_a_control_that_leaps_wildly_is_worse_than_one_that_trains():
    wild = [2.3] + [10.0 ** (3 + 7 * abs(math.sin(i))) for i in range(59)]
    assert compare(wild, FALLING).better


def test_a_control_that_becomes_nan_is_worse():
    assert compare(FALLING[:10] + [math.nan] * 50, FALLING).better


def test_a_treated_arm_that_becomes_nan_is_worse():
    assert compare(FALLING, FALLING[:10] + [math.nan] * 50).worse


def test_one_seed_that_disagrees_leaves_it_open():
    assert verdict([compare(FLAT, FALLING), compare(FALLING, FALLING)]) is Verdict.INCONCLUSIVE


@given(st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=90))
def test_no_curve_is_better_than_itself(curve):
    assert not compare(curve, curve).better
