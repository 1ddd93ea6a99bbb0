"""Histograms and bars: every value is counted once, whatever the values are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.pictures.distributions import bars, histogram, shares
from doctor.pictures.records import Illustration
from doctor.pictures.texts import excerpt
from doctor.reports.pictures import drawn


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60),
    st.lists(st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float), max_size=60),
)
def test_every_finite_value_is_in_one_bin(one, two):
    values = {"train": np.array(one, float), "test": np.array(two, float)}
    found = histogram("x", values)
    if found is None:
        return
    assert len(found.edges) <= 40
    assert list(found.edges) == sorted(found.edges)
    for series in found.series:
        assert len(series.shares) == len(found.edges) - 1
        assert sum(series.shares) == pytest.approx(1)
        assert series.count == np.isfinite(values[series.name]).sum()
    assert drawn([Illustration(found)])[None][0].chart


def test_an_extreme_value_does_not_flatten_the_rest():
    values = np.append(np.random.default_rng(0).normal(0, 1, 5000), [1e9])
    found = histogram("x", {"train": values})
    assert found.open_high
    assert not found.open_low
    assert found.edges[-1] < 10


def test_few_whole_numbers_have_a_bin_each():
    found = histogram("x", {"train": np.array([1.0, 1, 2, 5])})
    assert found.edges == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
    assert found.series[0].shares == (0.5, 0.25, 0, 0, 0.25)


def test_bars_show_the_commonest_and_count_the_rest():
    found = bars("x", {"train": {str(i): 100 - i for i in range(30)}, "test": {"0": 5}})
    assert found.names[:2] == ("0", "1")
    assert found.more == 18
    assert found.series[1].shares[0] == 1.0


def test_shares_leave_out_what_is_whole():
    found = shares("gaps", [("a", {"train": (0, 10)}), ("b", {"train": (1, 10)}), ("c", {"train": (5, 10)})])
    assert found.names == ("c", "b")
    assert shares("gaps", [("a", {"train": (0, 10)})]) is None


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("mail bob@corp.org now", "bob@corp.org"),
        ("x" * 300 + " 4111-1111-1111-1111", "4111-1111"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nabc\n-----END RSA PRIVATE KEY----- end", "MIIEpAIB"),
        ("api_key = a8Fk39xQzL0p7VbT", "a8Fk39xQ"),
    ],
)
def test_excerpts_are_masked_before_they_are_cut(text, gone):
    assert gone not in excerpt(text, 320)
    assert len(excerpt(text, 320)) <= 320


def test_a_heap_far_off_stands_apart_and_leaves_the_rest_its_shape():
    bulk = np.random.default_rng(0).normal(30, 5, 2000)
    found = histogram("x", {"train": np.append(bulk, np.full(200, -999.0))})
    shares = found.series[0].shares
    assert found.open_low
    assert shares[0] == pytest.approx(200 / 2200)
    assert shares[1] == 0
    assert max(shares[2:]) < 0.2
    flag = histogram("x", {"train": np.append(np.zeros(990), np.ones(10))})
    assert flag.series[0].shares == (0.99, 0.01)
    halves = histogram("x", {"train": np.append(bulk, bulk + 900)})  # two heaps of one size: both are the data
    assert not halves.open_low
    assert not halves.open_high
