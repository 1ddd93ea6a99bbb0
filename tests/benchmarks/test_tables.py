"""Rates and tables from outcomes made by hand."""

import pytest

from benchmarks.examination import Answer, Outcome
from benchmarks.tables import by_rule, confusion, markdown, summary, wilson


def outcome(name, fault, *answers, operator="negated", found=False):
    return Outcome(name, fault, operator if fault != "none" else "", list(answers), found=found)


RIGHT = Answer("LOS011", "loss-sign", "error", "confirmed", fits=True, on_line=True, line=3)
WRONG = Answer("OPT001", "lr-too-high", "error", "confirmed", fits=False, on_line=False, line=9)
OUTCOMES = [
    outcome("a", "loss-sign", RIGHT, found=True),
    outcome("b", "loss-sign", WRONG, RIGHT, found=True),
    outcome("c", "loss-sign"),
    outcome("d", "none"),
    outcome("e", "none", WRONG),
    Outcome("f", "loss-sign", "negated", failure="no report"),
]


def test_wilson_interval_of_known_value():
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


def test_summary_counts_leading_answers_and_leaves_failures_out():
    text = summary(OUTCOMES)
    assert "found          2/3" in text
    assert "found first    1/3" in text
    assert "healthy        1/2" in text
    assert "no report      1" in text


def test_confirmed_answer_to_another_fault_is_a_false_confirmation():
    row = next(line for line in by_rule(OUTCOMES).splitlines() if line.startswith("OPT001"))
    assert row.split()[2:] == ["1", "0", "0", "2", "1"]


def test_confusion_brackets_wrong_answers():
    assert "LOS011 1  (OPT001) 1  - 1" in confusion(OUTCOMES)


def test_markdown_has_a_row_for_the_family_and_for_all():
    text = markdown(OUTCOMES)
    assert "| losses | 3 | 33 %" in text
    assert "| all | 3 |" in text
    assert "| 2 | 1 |" in text


def test_outcome_survives_its_json_line():
    assert Outcome.parse(OUTCOMES[1].dump()) == OUTCOMES[1]
