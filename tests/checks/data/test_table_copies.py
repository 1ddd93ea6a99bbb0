"""Rows that are nearly others, rows that coincidence repeats, and the same where it means nothing."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from doctor import diagnose_data
from doctor.findings import Severity

_spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
planted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(planted)
splits = planted.splits

COPIES = ("DAT002", "DAT003", "DAT004", "DAT005")


def examine(data, target="outcome", select=COPIES):
    return diagnose_data(data, target=target, select=select, confirm=False)


def errors(report):
    return {f.rule: f for f in report.findings if f.level is not Severity.INFO}


def numbers(finding):
    return sorted(row for _, _, row in finding.rows.every)


# ---- near-duplicates of rows


@pytest.fixture
def soil():
    def table(rows, seed):
        g = np.random.default_rng(seed)
        columns = {name: g.gamma(3, 2, rows) for name in ("clay", "sand", "humus", "nitrogen", "water")}
        frame = pd.DataFrame({**columns, "field": g.choice(["north", "south"], rows)})
        return frame.assign(outcome=(frame.clay - frame.sand + g.normal(0, 1, rows) > 0).astype(int))

    return {"train": table(1500, 0), "test": table(500, 1)}


def test_rows_with_a_little_noise_are_found(soil):
    g = np.random.default_rng(2)
    copies = soil["train"].iloc[100:140].copy()
    for name in ("clay", "sand", "humus", "nitrogen", "water"):
        copies[name] *= 1 + g.normal(0, 0.002, 40)
    soil["test"] = pd.concat([soil["test"], copies], ignore_index=True)
    found = errors(examine(soil))
    assert set(found) == {"DAT004"}
    assert numbers(found["DAT004"]) == list(range(500, 540))


def test_rows_with_one_value_replaced_are_found(soil):
    copies = soil["train"].iloc[100:140].copy()
    copies["humus"] = np.random.default_rng(2).gamma(3, 2, 40)
    soil["test"] = pd.concat([soil["test"], copies], ignore_index=True)
    assert numbers(errors(examine(soil))["DAT004"]) == list(range(500, 540))


def test_unrelated_rows_are_silent(soil):
    assert not errors(examine(soil))


def test_repeated_measurements_of_one_thing_are_silent():
    """Neighbours in time are alike within training as much as across a random split."""
    g = np.random.default_rng(0)
    walk = {name: np.cumsum(g.normal(0, 0.01, 3000)) for name in ("a", "b", "c", "d")}
    frame = pd.DataFrame(walk).assign(outcome=g.integers(0, 2, 3000))
    test = g.random(3000) < 0.25
    assert not errors(examine({"train": frame[~test], "test": frame[test]}))


# ---- near-duplicates of texts in a table

WORDS = [
    f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "tu", "so") for b in ("rin", "dal", "pos", "ver", "gat", "lum", "tik")
]


def reviews(rows, seed, head="", tail=""):
    g = np.random.default_rng(seed)
    texts = [f"{head}{' '.join(g.choice(WORDS, 14))}{tail}" for _ in range(rows)]
    return pd.DataFrame({"text": texts, "stars": g.integers(1, 6, rows), "outcome": g.integers(0, 2, rows)})


def test_texts_with_a_word_replaced_are_found():
    data = {"train": reviews(800, 0), "test": reviews(300, 1)}
    for place in range(30):
        words = data["train"].text[place + 50].split()
        words[7] = "indeed"
        data["test"].loc[place, "text"] = " ".join(words).capitalize() + "!"
    found = errors(examine(data))
    assert set(found) == {"DAT004"}
    assert found["DAT004"].location.column == "text"
    assert numbers(found["DAT004"]) == list(range(30))


def test_texts_from_one_form_letter_are_silent():
    letter = {
        "head": "dear customer, thank you for your message about ",
        "tail": " and kind regards from all of us here",
    }
    assert not errors(examine({"train": reviews(800, 0, **letter), "test": reviews(300, 1, **letter)}))


def test_short_answers_that_many_give_are_silent():
    data = {"train": reviews(800, 0), "test": reviews(300, 1)}
    for frame in data.values():
        frame.loc[::3, "text"] = "yes thank you"
    assert not errors(examine(data))


# ---- rows that coincidence repeats


def test_long_texts_under_two_labels_conflict_though_short_ones_repeat():
    frame = reviews(900, 0)
    frame.loc[::9, ["text", "outcome"]] = ["ok", 1]
    rows = [place for place in range(1, 120) if place % 9][:30]
    copies = frame.iloc[rows].assign(outcome=lambda f: 1 - f.outcome)
    found = errors(examine(pd.concat([frame, copies], ignore_index=True)))
    assert set(found) == {"DAT005"}
    assert found["DAT005"].measured["groups"].value == 30


def ratings():
    g = np.random.default_rng(0)
    pairs = [(u, i) for u in range(200) for i in g.choice(60, 12, replace=False)]
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"]).sample(frac=1, random_state=0, ignore_index=True)
    return frame.assign(genre=frame.item_id % 5, rating=np.random.default_rng(1).integers(1, 6, len(frame)))


def test_a_user_rates_an_item_once():
    frame = ratings()
    assert not errors(examine(frame, "rating"))
    changed = frame.iloc[:40].assign(rating=lambda f: f.rating % 5 + 1)
    found = errors(examine(pd.concat([frame, changed, frame.iloc[100:130]], ignore_index=True), "rating"))
    assert found["DAT005"].measured["groups"].value == 40
    assert numbers(found["DAT002"]) == list(range(len(frame) + 40, len(frame) + 70))


def clicks(rows=4000):
    g = np.random.default_rng(0)
    return pd.DataFrame(
        {"user_id": g.integers(0, 50, rows), "item_id": g.integers(0, 40, rows), "rating": g.integers(0, 2, rows)}
    )


def test_a_user_may_click_an_item_again():
    assert not errors(examine(clicks(), "rating"))


def survey(rows=2500):
    g = np.random.default_rng(0)
    answers = {f"q{i}": g.choice(["yes", "no"], rows, p=[0.6, 0.4]) for i in range(7)}
    return pd.DataFrame(answers).assign(outcome=g.choice(["low", "high"], rows))


def test_a_part_of_a_survey_that_was_delivered_twice():
    frame = survey()
    found = errors(examine(pd.concat([frame, frame.iloc[400:900]], ignore_index=True)))
    assert numbers(found["DAT002"]) == list(range(2500, 3000))
    assert "same order" in found["DAT002"].message


def test_a_sorted_survey_has_no_part_twice():
    frame = survey()
    assert not errors(examine(frame.sort_values(list(frame.columns), ignore_index=True)))
