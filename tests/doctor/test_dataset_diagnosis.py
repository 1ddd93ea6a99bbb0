"""A data set from the command line and from Python: what is recognised, how it is divided, and what is said of bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import doctor
from doctor.cli import main
from doctor.errors import DoctorError
from doctor.subjects.dataset import DataOptions, dataset, is_data


def visits(rows=300, seed=0):
    g = np.random.default_rng(seed)
    age = g.integers(18, 90, rows)
    return pd.DataFrame(
        {
            "age": age,
            "weight": g.normal(75, 12, rows).round(2),
            "height": g.normal(170, 9, rows).round(2),
            "stay": (0.1 * age + g.normal(0, 2, rows)).round(2),
        }
    )


def run(*arguments):
    return CliRunner().invoke(main, ["diagnose", *map(str, arguments)])


def test_two_files_are_train_and_test_by_their_names(tmp_path):
    visits().to_csv(tmp_path / "visits_train.csv", index=False)
    visits(seed=1).to_csv(tmp_path / "visits_test.csv", index=False)
    source = dataset([str(tmp_path / "visits_train.csv"), str(tmp_path / "visits_test.csv")])
    assert [split.name for split in source.splits] == ["train", "test"]
    assert source.tables.rows_by_split == {"train": 300, "test": 300}


def test_folders_and_patterns_are_splits(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        for part in range(2):
            visits(seed=part).to_parquet(tmp_path / name / f"part-{part}.parquet")
    assert is_data(str(tmp_path))
    tables = dataset([str(tmp_path)]).tables
    assert tables.rows_by_split == {"train": 600, "test": 600}
    assert tables.place("train", 301) == (str(tmp_path / "train" / "part-1.parquet"), 1)
    assert dataset([str(tmp_path / "train" / "*.parquet")]).tables.rows == 600


def test_a_column_divides_a_file(tmp_path):
    visits().assign(part=["training"] * 200 + ["test"] * 100).to_csv(tmp_path / "all.csv", index=False)
    tables = dataset([str(tmp_path / "all.csv")], DataOptions(split_column="part")).tables
    assert tables.rows_by_split == {"train": 200, "test": 100}


def test_the_report_of_a_file_is_the_normal_one(tmp_path):
    frame = visits()
    frame.loc[frame.index[5:8], "stay"] = np.nan
    frame.to_csv(tmp_path / "visits.csv", index=False)
    result = run(tmp_path / "visits.csv", "--target", "stay", "--format", "json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["subject"]["kind"] == "dataset"
    (finding,) = [found for found in report["findings"] if found["severity"] == "error"]
    assert (finding["rule"], finding["location"]["column"]) == ("DAT001", "stay")
    assert finding["measured"]["nulls"]["value"] == 3


def test_all_rows_found_are_written(tmp_path):
    frame = visits()
    frame.loc[frame.index[5:45], "stay"] = np.nan
    frame.to_csv(tmp_path / "visits.csv", index=False)
    run(tmp_path / "visits.csv", "--target", "stay", "--rows", tmp_path / "rows.parquet", "--select", "DAT001")
    assert pd.read_parquet(tmp_path / "rows.parquet")["row"].tolist() == list(range(5, 45))


def test_a_frame_is_examined_in_place():
    frame = visits()
    frame.loc[frame.index[5:8], "stay"] = np.nan
    report = doctor.diagnose_data(frame, target="stay", select=("DAT001",))
    assert [(f.rule, f.location.column) for f in report.findings] == [("DAT001", "stay")]
    assert doctor.diagnose_data({"train": visits(), "test": visits(seed=1)}, target="stay", select=("DAT001",)).healthy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04\x00\x00\x00\x00garbage", "is no text"),
        (b"a,b\n", "no rows"),
    ],
)
def test_what_is_no_table_is_one_clear_line(tmp_path, content, said):
    (tmp_path / "bad.csv").write_bytes(content)
    result = run(tmp_path / "bad.csv")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_truncated_parquet_file_is_one_clear_line(tmp_path):
    visits().to_parquet(tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-200])
    result = run(tmp_path / "cut.parquet")
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)


def test_an_absent_target_is_answered_with_the_nearest(tmp_path):
    visits().to_csv(tmp_path / "visits.csv", index=False)
    assert 'did you mean "stay"?' in run(tmp_path / "visits.csv", "--target", "stays").stderr
    with pytest.raises(DoctorError, match="did you mean"):
        dataset([str(tmp_path / "visit.csv")])


def test_a_sample_says_what_it_can_miss(tmp_path):
    visits(5000).to_parquet(tmp_path / "visits.parquet")
    result = run(tmp_path / "visits.parquet", "--sample", 1000, "--select", "DAT001", "--format", "json")
    report = json.loads(result.stdout)
    assert 850 < report["evidence"]["dataset"]["rows_examined"] < 1150
    assert report["evidence"]["dataset"]["rows_total"] == 5000
    assert "95 % confidence" in " ".join(report["notes"])


def test_a_memory_limit_is_kept_or_refused(tmp_path):
    visits(5000).to_parquet(tmp_path / "visits.parquet")
    assert run(tmp_path / "visits.parquet", "--memory-limit", "200MB", "--select", "DAT002").exit_code == 0
    refused = run(tmp_path / "visits.parquet", "--memory-limit", "much", "--select", "DAT002")
    assert (refused.exit_code, len(refused.stderr.strip().splitlines())) == (2, 1)


def test_leaked_rows_are_proven_by_a_reference_model(tmp_path):
    train, test = visits(800), visits(300, seed=1)
    pd.concat([test, train[:60]]).to_csv(tmp_path / "test.csv", index=False)
    train.to_csv(tmp_path / "train.csv", index=False)
    result = run(tmp_path / "train.csv", tmp_path / "test.csv", "--target", "stay", "--format", "json")
    (finding,) = [found for found in json.loads(result.stdout)["findings"] if found["rule"] == "DAT003"]
    assert finding["verdict"] == "confirmed"
    assert finding["effect"]["control"] > finding["effect"]["treated"]
    assert [row["row"] for row in finding["rows"]["first"]] == list(range(300, 320))


def test_a_script_is_still_a_script(tmp_path):
    (tmp_path / "train.py").write_text("print(1)")
    assert not is_data(str(tmp_path / "train.py"))
    assert not is_data(f"{tmp_path / 'train.py'}:case")
    assert not is_data(str(tmp_path))
    assert not is_data("weights.pt")
