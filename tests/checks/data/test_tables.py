"""Planted faults of tables are found with their rows or counts, and their clean twins are silent."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from doctor import diagnose_data
from doctor.findings import Severity

_spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
planted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(planted)
patients, splits, shuffled = planted.patients, planted.splits, planted.shuffled


def examine(data, **options):
    options.setdefault("target", "outcome")
    return diagnose_data(data, **options)


def loud(report):
    """(rule, column) of every error and warning."""
    return {(f.rule, f.location.column) for f in report.findings if f.level is not Severity.INFO}


def only(report, rule, column=None):
    """The one loud finding of a rule; nothing else is loud."""
    assert {code for code, _ in loud(report)} == {rule}, [(f.rule, f.message) for f in report.findings]
    found = [f for f in report.findings if f.rule == rule and f.level is not Severity.INFO]
    found = [f for f in found if column is None or f.location.column == column]
    assert len(found) == 1
    return found[0]


def numbers(finding):
    return sorted(row for _, _, row in finding.rows.every)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_table_is_silent(seed):
    report = examine(splits(seed))
    assert not loud(report), [f.message for f in report.findings]
    assert not [skip for skip in report.skipped if "crashed" in skip.reason]


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_real_tables_are_silent(name):
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    report = diagnose_data(frame, target="target")
    assert not loud(report), [f.message for f in report.findings]
    assert {f.rule for f in report.findings if "repeat" in f.message} == ({"DAT002"} if name == "iris" else set())


def test_repeated_rows_with_fresh_ids_are_found():
    data = splits()
    copies = data["train"].iloc[100:140].assign(patient_id=[f"P{900000 + i}" for i in range(40)])
    data["train"] = pd.concat([data["train"], copies], ignore_index=True)
    finding = only(examine(data), "DAT002")
    assert numbers(finding) == list(range(2000, 2040))


def test_repeats_in_a_table_of_few_values_are_chance():
    g = np.random.default_rng(0)
    frame = pd.DataFrame({name: g.integers(0, 4, 3000) for name in "abcd"})
    frame["outcome"] = ((frame.a + frame.b > 3) ^ (g.random(3000) < 0.1)).astype(int)
    report = examine({"train": frame[:2400], "test": frame[2400:]})
    assert not {rule for rule, _ in loud(report)} & {"DAT002", "DAT003", "DAT005"}


def test_leaked_rows_are_found_also_where_the_target_differs():
    data = splits()
    leaked = data["train"].iloc[50:85].copy()
    leaked.loc[leaked.index[:5], "outcome"] = 1 - leaked["outcome"][:5]
    data["test"] = pd.concat([data["test"], leaked], ignore_index=True)
    finding = only(examine(data), "DAT003")
    assert numbers(finding) == list(range(700, 735))
    assert finding.measured["same_target"].value == 30


def test_null_equals_null_in_leaked_rows():
    data = splits()
    gaps = data["train"][data["train"].income.isna()][:14]
    data["test"] = pd.concat([data["test"], gaps], ignore_index=True)
    assert only(examine(data), "DAT003").measured["rows"].value == 14


def test_contradicting_labels_are_found():
    data = splits()
    copies = data["train"].iloc[300:330].copy()
    copies["outcome"] = 1 - copies["outcome"]
    data["train"] = pd.concat([data["train"], copies], ignore_index=True)
    finding = only(examine(data, ignore={"DAT013": ""}), "DAT005")
    assert finding.measured["groups"].value == 30
    assert numbers(finding) == [*range(300, 330), *range(2000, 2030)]


def test_disguised_missing_values_are_found():
    data = splits()
    train = data["train"]
    train.loc[10:69, "age"] = -999
    train.loc[100:179, "height"] = 0.0
    train["ward"] = train["ward"].astype(object)
    train.loc[200:249, "ward"] = "N/A"
    train.loc[250:259, "ward"] = "unknown"
    report = examine(data)
    assert loud(report) == {("DAT001", "age"), ("DAT001", "height"), ("DAT001", "ward")}
    found = {f.location.column: numbers(f) for f in report.findings if f.level is Severity.ERROR}
    assert found == {"age": [*range(10, 70)], "height": [*range(100, 180)], "ward": [*range(200, 260)]}


def test_gaps_that_another_column_explains_are_no_fault():
    data = splits()
    for frame in data.values():
        frame["married"] = np.random.default_rng(5).integers(0, 2, len(frame))
        frame["spouse_age"] = np.where(
            frame.married == 1, np.random.default_rng(6).normal(50, 12, len(frame)).round(1), np.nan
        )
    assert not loud(examine(data))


def test_a_class_written_in_two_ways_and_one_that_training_lacks():
    data = splits()
    for frame in data.values():
        frame["outcome"] = frame["outcome"].map({0: "home", 1: "ward"}).astype(object)
    data["train"].loc[20:59, "outcome"] = data["train"].loc[20:59, "outcome"].str.upper() + " "
    data["test"].loc[0:19, "outcome"] = "transfer"
    report = examine(data, select=("DAT006",))
    messages = " ".join(f.message for f in report.findings)
    assert "40 labels differ" in messages
    assert "'transfer' (20)" in messages


def test_class_ids_that_stand_apart():
    frame = patients()
    frame.loc[5:14, "outcome"] = -1
    frame.loc[15:30, "outcome"] = 2
    assert "10 labels are -1" in only(examine(frame, select=("DAT006",)), "DAT006").message


def test_a_class_that_a_split_lacks():
    data = splits()
    data["test"] = data["test"][data["test"].outcome == 0]
    report = examine(data, select=("DAT007",))
    assert only(report, "DAT007").measured["rows"].value == 0
    data = splits()
    for frame in data.values():
        frame["outcome"] = (frame.age > 87).astype(int)
    assert not loud(examine(data, select=("DAT007",)))


def test_columns_that_carry_nothing():
    data = splits()
    for frame in data.values():
        frame["site"] = "A"
        frame["empty"] = np.nan
        frame["age_again"] = frame["age"]
    data["test"]["visits"] = 0
    report = examine(data, select=("DAT010",))
    assert loud(report) == {("DAT010", name) for name in ("site", "empty", "age_again", "visits")}


def test_an_id_that_foretells_the_target():
    frame = patients().sort_values("outcome", ignore_index=True)
    frame["number"] = np.arange(len(frame)) + 500
    assert loud(examine(shuffled(frame), select=("DAT025",))) == {("DAT025", "number")}
    frame["number"] = np.random.default_rng(0).permutation(len(frame)) + 500
    assert not loud(examine(shuffled(frame), select=("DAT025",)))


def test_a_column_that_gives_the_answer_away():
    data = splits()
    for frame in data.values():
        noise = np.random.default_rng(1).random(len(frame)) < 0.01
        frame["discharge_code"] = np.where(frame.outcome ^ noise, 7, 3)
    assert only(examine(data), "DAT011").location.column == "discharge_code"


def test_targets_that_belong_to_other_rows():
    data = splits()
    data["train"]["outcome"] = np.random.default_rng(0).permutation(data["train"]["outcome"])
    assert "in test the pairs hold" in only(examine(data), "DAT012").message
    data = splits()
    data["train"]["outcome"] = np.roll(data["train"]["outcome"], 1)
    assert "displaced by 1 row" in only(examine(data), "DAT012").message


def test_a_stretch_of_targets_that_belongs_to_other_rows():
    data = splits()
    y = data["train"]["outcome"].to_numpy().copy()
    y[1000:1500] = np.random.default_rng(0).permutation(y[1000:1500])
    data["train"]["outcome"] = y
    assert "about rows 1,0" in only(examine(data), "DAT012").message


@pytest.mark.parametrize("with_test", [True, False])
def test_wrong_labels_are_found(with_test):
    data = splits()
    wrong = np.sort(np.random.default_rng(3).choice(2000, 160, replace=False))
    data["train"].loc[wrong, "outcome"] = 1 - data["train"].loc[wrong, "outcome"]
    finding = only(examine(data if with_test else data["train"]), "DAT013")
    assert len(set(numbers(finding)) & set(wrong)) > 0.6 * finding.rows.count


def test_classes_that_overlap_are_no_wrong_labels():
    g = np.random.default_rng(0)
    x = g.normal(0, 1, (3000, 4))
    for scale in (0.7, 2.0):
        y = (scale * x.sum(axis=1) + g.logistic(0, 1, 3000) > 0).astype(int)
        frame = pd.DataFrame(x.round(3), columns=list("abcd")).assign(outcome=y)
        assert not loud(examine(frame, select=("DAT013", "DAT012")))
        assert not loud(examine({"train": frame[:2000], "test": frame[2000:]}, select=("DAT013", "DAT012")))


def test_drift_names_the_columns_and_leaves_dates_alone():
    data = splits()
    data["test"]["admitted_on"] += pd.Timedelta(days=400)
    assert not loud(examine(data))
    data["test"]["income"] = data["test"]["income"] ** 1.1
    data["test"]["ward"] = np.random.default_rng(0).choice(["north", "annex"], len(data["test"]), p=[0.3, 0.7])
    assert loud(examine(data)) == {("DAT015", "income"), ("DAT015", "ward")}


def test_a_test_split_that_was_scaled():
    data = splits()
    for name in ("age", "pressure", "height", "income"):
        data["test"][name] = (data["test"][name] - data["train"][name].mean()) / data["train"][name].std()
    assert loud(examine(data)) == {("DAT016", name) for name in ("age", "pressure", "height", "income")}


def test_a_column_of_the_test_split_in_another_unit():
    data = splits()
    data["test"]["height"] = (data["test"]["height"] / 2.54).round(1)
    assert "inches and centimetres" in only(examine(data), "DAT016", "height").message


def test_two_units_in_one_column():
    data = splits()
    rows = np.sort(np.random.default_rng(2).choice(2000, 120, replace=False))
    data["train"].loc[rows, "height"] = (data["train"].loc[rows, "height"] / 2.54).round(1)
    assert numbers(only(examine(data), "DAT022", "height")) == list(rows)
    data = splits()
    data["train"].loc[rows, "temperature"] = (data["train"].loc[rows, "temperature"] * 1.8 + 32).round(2)
    assert "Celsius" in only(examine(data), "DAT022", "temperature").message


def test_a_rare_factor_of_a_thousand():
    data = splits()
    rows = np.sort(np.random.default_rng(2).choice(2000, 60, replace=False))
    data["train"]["income"] = data["train"]["income"].fillna(30000.0)
    data["train"].loc[rows, "income"] /= 1000
    assert numbers(only(examine(data, select=("DAT022",)), "DAT022", "income")) == list(rows)


def test_a_zero_that_another_column_explains_is_no_missing_value():
    data = splits()
    for frame in data.values():
        frame["running"] = np.random.default_rng(5).integers(0, 3, len(frame)) > 0
        frame["rpm"] = np.where(frame.running, np.random.default_rng(6).normal(1500, 100, len(frame)).round(), 0.0)
    assert not loud(examine(data, select=("DAT001",)))


def test_two_populations_are_no_two_units():
    data = splits()
    for frame in data.values():
        child = np.random.default_rng(3).random(len(frame)) < 0.3
        frame["height"] = np.where(child, np.random.default_rng(4).normal(67, 9, len(frame)), frame["height"]).round(1)
        frame["age"] = np.where(child, np.random.default_rng(4).integers(0, 3, len(frame)), frame["age"])
    assert ("DAT022", "height") not in loud(examine(data, select=("DAT022",)))


def test_values_that_are_no_numbers(tmp_path):
    frame = patients()
    frame["height"] = frame["height"].astype(object)
    for row, text in zip(range(30, 60), ["171 cm", "1,70", "5'7\"", "tall"] * 8, strict=False):
        frame.loc[row, "height"] = text
    frame.to_csv(tmp_path / "data.csv", index=False)
    finding = only(examine(str(tmp_path / "data.csv")), "DAT021", "height")
    assert numbers(finding) == list(range(30, 60))
    assert loud(examine(frame)) == {("DAT021", "height")}


def test_codes_that_look_like_numbers_are_no_mixed_types(tmp_path):
    frame = patients()
    frame["zip"] = [f"{i * 37 % 99999:05d}" for i in range(len(frame))]
    frame["ticket"] = [str(1000 + i) if i % 3 else f"A/5 {i}" for i in range(len(frame))]
    frame.to_csv(tmp_path / "data.csv", index=False)
    assert not loud(examine(str(tmp_path / "data.csv")))


def test_broken_lines_of_csv_are_found_and_rows_keep_their_numbers(tmp_path):
    frame = patients(400)
    frame.loc[300:309, "age"] = -999
    lines = frame.to_csv(index=False).splitlines()
    lines[11] = ",".join(lines[11].split(",")[:6])
    lines[21] += ",extra,fields"
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    report = examine(str(tmp_path / "data.csv"))
    assert {rule for rule, _ in loud(report)} == {"DAT001", "DAT017"}
    found = {f.rule: numbers(f) for f in report.findings if f.level is Severity.ERROR}
    assert found == {"DAT001": [*range(300, 310)], "DAT017": [10, 20]}


def test_broken_lines_and_mixed_types_of_jsonl_are_found(tmp_path):
    lines = patients(400).drop(columns="admitted_on").to_json(orient="records", lines=True).splitlines()
    lines[7] = lines[7][:40]
    lines[9] = "[1, 2]"
    for row in range(20, 26):
        lines[row] = lines[row].replace('"age":', '"age":"').replace(',"pressure"', '","pressure"')
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n")
    report = examine(str(tmp_path / "data.jsonl"))
    assert {rule for rule, _ in loud(report)} == {"DAT017", "DAT021"}
    assert numbers(next(f for f in report.findings if f.rule == "DAT017")) == [7, 9]


def test_text_that_was_decoded_wrongly(tmp_path):
    frame = patients(400)
    frame["note"] = [f"café {i} – naïve Öl" for i in range(400)]
    assert not loud(examine(frame))
    frame.loc[5:24, "note"] = [text.encode().decode("cp1252") for text in frame.loc[5:24, "note"]]
    assert numbers(only(examine(frame), "DAT020", "note")) == list(range(5, 25))
    good = patients(400).assign(note="café").to_csv(index=False).splitlines(keepends=True)
    (tmp_path / "mixed.csv").write_bytes(
        b"".join(line.encode("utf-8" if i % 7 else "cp1252") for i, line in enumerate(good))
    )
    assert "no UTF-8" in only(examine(str(tmp_path / "mixed.csv"), select=("DAT020",)), "DAT020").message


def test_a_hash_collision_is_told_from_an_equal_row(monkeypatch):
    from doctor.tables.dialect import DuckDialect

    whole = DuckDialect.row_hash
    monkeypatch.setattr(DuckDialect, "row_hash", lambda self, columns: f"({whole(self, columns)}) % 300")
    data = splits()
    data["train"] = pd.concat([data["train"], data["train"].iloc[100:140]], ignore_index=True)
    report = examine(data, select=("DAT002",))
    assert numbers(next(f for f in report.findings if f.rule == "DAT002")) == list(range(2000, 2040))


def test_wide_and_nested_tables_are_read():
    g = np.random.default_rng(0)
    wide = pd.DataFrame(g.normal(0, 1, (60, 300)).round(4), columns=[f"x{i}" for i in range(300)])
    assert not loud(diagnose_data(wide, select=("DAT001", "DAT002", "DAT010")))
    frame = patients(300).assign(tags=[["a", "b"][: i % 3] for i in range(300)], extra=[{"k": i} for i in range(300)])
    assert not loud(examine(frame))
