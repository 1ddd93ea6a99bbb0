"""Tables that are wide, long or bent: what is found in them stays the same, and nothing is lost without a word."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from doctor import diagnose_data
from doctor.errors import DoctorError
from doctor.evidence import extremes, table_sample
from doctor.evidence.data_source import DataSource, DataSplit
from doctor.evidence.table_profile import table_profile
from doctor.findings import Severity
from doctor.tables import tables as tables_module

_spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
planted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(planted)


def loud(report):
    return {(f.rule, f.location.column) for f in report.findings if f.level is not Severity.INFO}


def wide(rows, columns, seed):
    """Numbers, counts, flags and categories of which the first five tell of the target, in the last column."""
    g = np.random.default_rng(seed)
    y = g.integers(0, 2, rows)
    made = {}
    for i in range(columns):
        shift = 1.2 * y if i < 5 else 0
        made[f"x{i}"] = (
            np.round(g.normal(shift, 1, rows), 4) if i % 4 < 2 or i < 5
            else g.integers(0, 100, rows) if i % 4 == 2
            else g.choice(["a", "b", "c", "d"], rows)
        )  # fmt: skip
    return pd.DataFrame({**made, "y": y})


@pytest.fixture(scope="module")
def broad():
    return {"train": wide(600, 900, 0), "test": wide(300, 900, 1)}


def test_a_healthy_wide_table_is_silent_though_hundreds_of_columns_are_tested(broad):
    report = diagnose_data(broad, target="y")
    assert not loud(report), [f.message for f in report.findings]
    assert not [skip for skip in report.skipped if "target" in skip.reason or "crashed" in skip.reason]


def test_faults_in_the_last_columns_of_a_wide_table_are_found(broad):
    train, test = broad["train"].copy(), broad["test"].copy()
    train.loc[20:39, "x897"] = -999.0
    test["x896"] = test["x896"] + 1.5
    for frame in (train, test):
        frame["x890"] = np.where(frame.y == 1, frame.x890 + 1000, frame.x890)
    report = diagnose_data({"train": train, "test": test}, target="y")
    assert loud(report) == {("DAT001", "x897"), ("DAT015", "x896"), ("DAT011", "x890")}
    (code,) = (f for f in report.findings if f.location.column == "x897")
    assert sorted(row for _, _, row in code.rows.every) == list(range(20, 40))


def test_what_lies_between_the_ends_is_the_same_from_counts_and_from_a_scan(monkeypatch):
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"n": g.poisson(3, 500), "x": g.choice([0.5, 1.5, -2.0, np.nan], 500)})
    source = DataSource("table", (DataSplit("data", (), "object", frame),))
    profile = table_profile(source)
    asked = [(column, without) for column in profile.columns for without in ((), (0.0,), (-2.0, 1.5))]
    counted = extremes.others(source.tables, asked)
    ends = extremes.counts_of(source.tables, [(profile.columns[0], 0.0), (profile.columns[1], 0.5)])
    assert ends == [int((frame.n == 0).sum()), int((frame.x == 0.5).sum())]
    monkeypatch.setattr(extremes, "_counted", lambda column: None)
    for one, two in zip(counted, extremes.others(source.tables, asked), strict=True):
        assert (one.filled, one.distinct) == (two.filled, two.distinct)
        assert one.numbers.quantiles == pytest.approx(two.numbers.quantiles)
        assert (one.numbers.mean, one.numbers.deviation) == pytest.approx((two.numbers.mean, two.numbers.deviation))
        assert (one.numbers.minimum, one.numbers.maximum) == (two.numbers.minimum, two.numbers.maximum)
    assert ends == extremes.counts_of(source.tables, [(profile.columns[0], 0.0), (profile.columns[1], 0.5)])


def test_samples_of_a_long_table_come_from_one_and_find_the_same(monkeypatch):
    """With samples made small, counts of exact rules stay exact and the trials still run."""
    data = planted.splits()
    data["train"] = pd.concat([data["train"], data["train"].iloc[100:140]], ignore_index=True)
    whole = diagnose_data(data, target="outcome")
    monkeypatch.setattr(tables_module, "THINNED", 900)
    monkeypatch.setattr(table_sample, "ROWS", 500)
    part = diagnose_data(data, target="outcome")
    assert loud(whole) == loud(part) == {("DAT002", None)}
    rows = [[r for f in report.findings if f.rule == "DAT002" for r in f.rows.every] for report in (whole, part)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 40


def test_a_quote_that_is_never_closed_takes_no_lines_silently(tmp_path):
    lines = [f"{i},{i * 2 % 7},{i % 2}" for i in range(200)]
    lines[150] = '"150,6,0'
    path = tmp_path / "open.csv"
    path.write_text("a,b,label\n" + "\n".join(lines) + "\n")
    (found,) = (f for f in diagnose_data([str(path)], target="label", confirm=False).findings if f.rule == "DAT017")
    assert sorted(row for _, _, row in found.rows.every) == list(range(150, 200))
    assert "49 with an open quote before them" in found.message


def test_decimals_are_no_payment_cards():
    g = np.random.default_rng(0)
    embeddings = [list(map(float, g.normal(size=32))) for _ in range(300)]
    texts = [f"scored {x:.16f} in the last run" for x in g.random(300)]
    table = pa.table({"v": embeddings, "said": texts, "label": [i % 2 for i in range(300)]})
    assert not {rule for rule, _ in loud(diagnose_data(table, target="label", select=("PRV",)))}
    texts[7] = "paid with 4111 1111 1111 1111"
    table = table.set_column(1, "said", pa.array(texts))
    assert loud(diagnose_data(table, target="label", select=("PRV",))) == {("PRV001", "said")}


def test_evidence_that_crashes_is_told_though_another_look_of_the_rule_does_not_concern_tables(monkeypatch):
    from doctor.evidence import row_matches

    def broken(*_):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(row_matches, "_candidates", broken)
    report = diagnose_data(planted.splits(), target="outcome", confirm=False, select=("DAT001", "DAT002"))
    assert {skip.rule for skip in report.skipped} == {"DAT002"}
    assert "RowMatches crashed" in report.skipped[0].reason


def test_too_little_memory_ends_in_one_line_and_enough_finds_the_same(tmp_path):
    frame = planted.patients(30_000)
    frame = pd.concat([frame, frame.iloc[:200]], ignore_index=True)
    path = tmp_path / "train.parquet"
    frame.to_parquet(path)
    with pytest.raises(DoctorError, match=r"memory limit of .* is too little"):
        diagnose_data([str(path)], target="outcome", confirm=False, memory_limit="2MB", select=("DAT002",))
    report = diagnose_data([str(path)], target="outcome", confirm=False, memory_limit="30MB", select=("DAT002",))
    (found,) = report.findings
    assert sorted(row for _, _, row in found.rows.every) == list(range(30_000, 30_200))
