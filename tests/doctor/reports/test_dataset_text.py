"""How the terminal tells of a data set: what needs no trial is no "untested", other kinds of data are not "skipped"."""

import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from doctor import diagnose_data
from doctor.cli import main
from doctor.findings import Verdict
from doctor.reports import render


@pytest.fixture(scope="module")
def report():
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"size": g.normal(50, 9, 400).round(2), "sort": g.choice(["ash", "oak", "elm"], 400)})
    moved = frame.assign(size=g.normal(90, 9, 400).round(2))
    frame.loc[:79, "size"] = -999
    return diagnose_data({"train": frame, "test": moved}, target="sort", confirm=False)


def test_what_is_counted_or_measured_is_called_so(report):
    text = render(report, "text")
    assert re.search(r"error\[DAT001\].* counted\n", text)
    assert re.search(r"error\[DAT015\].* measured\n", text)
    assert "untested" not in text
    assert "untested" not in render(report, "markdown")
    assert {finding.verdict for finding in report.findings} == {Verdict.UNTESTED}  # the contract's word stays


def test_a_line_sums_the_data_up(report):
    text = render(report, "text")
    assert "data: train 400 / test 400; 3 classes (" in text
    assert "--> column size" in text


def test_rules_on_other_data_are_not_called_skipped(report):
    closing = next(line for line in render(report, "text").splitlines() if "rules run" in line)
    assert "for other kinds of data" in closing
    assert "no images" not in closing
    assert "no images" in render(report, "text", verbose=True)


def test_more_rows_than_shown_say_where_all_are(report):
    assert "--rows FOUND.parquet" in render(report, "text")


def test_help_has_options_by_what_they_concern():
    text = CliRunner().invoke(main, ["diagnose", "--help"]).output
    headings = re.findall(r"^(\S.*):$", text, re.M)
    assert headings == [
        "Of data", "Of programs", "Rules and trials", "The report", "Exit status, and what is accepted", "Else",
    ]  # fmt: skip
    from doctor.cli import diagnose

    for option in diagnose.params:
        if option.opts[0].startswith("--"):
            assert option.opts[0] in text


def test_rows_of_a_program_are_refused(tmp_path):
    (tmp_path / "train.py").write_text("print(1)")
    result = CliRunner().invoke(main, ["diagnose", str(tmp_path / "train.py"), "--rows", "r.parquet"])
    assert result.exit_code == 2
    assert "--rows goes with data" in result.output
