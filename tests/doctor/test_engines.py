"""The same findings with the same counts from every engine."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from doctor import diagnose_data
from doctor.findings import Severity

_spec = importlib.util.spec_from_file_location("planted", Path(__file__).parents[1] / "checks" / "data" / "planted.py")
planted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(planted)


RULES = (
    "DAT001", "DAT002", "DAT003", "DAT005", "DAT006", "DAT007", "DAT010", "DAT015", "DAT016", "DAT020", "DAT021", "DAT022", "PRV",
)  # fmt: skip


def many_faults():
    """Splits with gaps, codes, repeated, contradicting and leaked rows, minus zero, and rows with nulls in other places."""
    data = planted.splits()
    train, test = data["train"], data["test"]
    train.loc[10:69, "age"] = -999
    train.loc[100:249, "income"] = np.nan
    train["weight_change"] = train["weight_change"] + 0.0
    train["ward"] = train["ward"].astype(object)
    train.loc[400:449, "ward"] = "?"
    train.loc[500:529, "allergy"] = "nuts, mail me: jo.do@mail.org"
    zeros = train[train.weight_change == 0].iloc[:12].assign(weight_change=-0.0)
    contradicting = train.iloc[600:620].assign(outcome=lambda frame: 1 - frame.outcome)
    gaps = train.iloc[110:125]
    train = pd.concat([train, train.iloc[700:740], zeros, contradicting, gaps], ignore_index=True)
    test = pd.concat([test, train.iloc[800:830], train.iloc[130:140]], ignore_index=True)
    return {"train": train, "test": test}


def told(report):
    """What a user is told: rule, severity, column, message and all rows of every finding."""
    return sorted(
        (
            f.rule,
            str(f.severity),
            f.location.column or "",
            f.message,
            tuple(r for _, _, r in f.rows.every) if f.rows else (),
        )
        for f in report.findings
    )


def plain(frames):
    """Without the reference models, which see the same sample whatever read it."""
    return told(diagnose_data(frames, target="outcome", confirm=False, select=RULES))


@pytest.fixture(scope="module")
def frames():
    return many_faults()


@pytest.fixture(scope="module")
def expected(frames):
    found = plain(frames)
    loud = {(rule, column) for rule, severity, column, *_ in found if severity != Severity.INFO}
    assert {("DAT001", "age"), ("DAT001", "ward"), ("DAT001", "income"), ("PRV001", "allergy")} <= loud
    assert {"DAT002", "DAT003", "DAT005"} <= {rule for rule, _ in loud}
    rows = {
        rule: len(rows) for rule, severity, *_, rows in found if severity != Severity.INFO and rule.startswith("DAT00")
    }
    assert (rows["DAT002"], rows["DAT003"], rows["DAT005"]) == (67, 40, 40)
    return found


def test_polars_frames(frames, expected):
    import polars

    assert plain({name: polars.from_pandas(frame) for name, frame in frames.items()}) == expected


def test_arrow_tables(frames, expected):
    import pyarrow

    assert (
        plain({name: pyarrow.Table.from_pandas(frame, preserve_index=False) for name, frame in frames.items()})
        == expected
    )


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow"])
def test_files(frames, expected, tmp_path, form):
    for name, frame in frames.items():
        path = tmp_path / f"{name}.{form}"
        if form == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path) if form == "parquet" else frame.to_feather(path)
    assert plain([str(tmp_path / f"{name}.{form}") for name in frames]) == expected


def test_a_larger_parquet_file_is_read_where_it_lies(frames, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("doctor.tables.opening.SMALL", 0)
    for name, frame in frames.items():
        frame.to_parquet(tmp_path / f"{name}.parquet")
    assert plain([str(tmp_path / f"{name}.parquet") for name in frames]) == expected


SPARK_RULES = ("DAT001", "DAT002", "DAT003", "DAT005", "PRV001")


@pytest.mark.slow
def test_spark_frames(frames):
    """On fewer columns and rules, since each question costs Spark a job: all findings were compared once by hand."""
    pyspark_sql = pytest.importorskip("pyspark.sql")
    session = (
        pyspark_sql.SparkSession.builder.master("local[1]").appName("doctor")
        .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "1")
        .config("spark.default.parallelism", "1").config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN").config("spark.sql.adaptive.enabled", "false").getOrCreate()
    )  # fmt: skip
    kinds = {
        "age": "bigint", "height": "double", "weight_change": "double", "income": "double", "allergy": "string",
        "outcome": "bigint",
    }  # fmt: skip
    fewer = {name: frame[list(kinds)] for name, frame in frames.items()}
    try:
        given = {}
        for name, frame in fewer.items():
            rows = frame.astype(object).where(frame.notna(), None).values.tolist()
            given[name] = session.createDataFrame(rows, ", ".join(f"{column} {kind}" for column, kind in kinds.items()))
        options = {"target": "outcome", "select": SPARK_RULES, "confirm": False}
        found, expected = (told(diagnose_data(data, **options)) for data in (given, fewer))
        assert found == expected
        assert {"DAT001", "DAT002", "DAT003", "DAT005", "PRV001"} <= {rule for rule, *_ in found}
    finally:
        session.stop()
