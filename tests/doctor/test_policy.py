"""The gate's policy in the configuration, and where reports go."""

import json

import numpy
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from doctor import config
from doctor.cli import main
from doctor.errors import DoctorError
from doctor.reports import format_of


def settings(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    return config.load(tmp_path)


def test_the_policy_is_read(tmp_path):
    found = settings(
        tmp_path,
        '[tool.doctor.gate]\nfail-on = "error"\nmax-size = "1.5 GiB"\nformats = ["onnx"]\nignore = ["WGT004"]\n'
        "tolerance = {float16 = 0.01}\n",
    )
    assert found.gate.max_size == 3 * 2**29
    assert found.gate.tolerance == {"float16": 0.01}
    at_gate = config.at_gate(found)
    assert (found.fail_on, at_gate.fail_on) == ("warning", "error")
    assert at_gate.rules == {"FIL007": {"max_bytes": 3 * 2**29}, "FIL008": {"formats": ("onnx",)}}
    assert at_gate.ignore == {"WGT004": "no reason given"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max-sise = 3", r'\[tool.doctor.gate\]: unknown key "max-sise"; did you mean "max-size"'),
        ('max-size = "two"', '"two" is no size'),
        ("max-size = 0", "max-size"),
        ("tolerance = {fp16 = 1}", "float16"),
        ("tolerance = {float16 = 0}", "gate.tolerance.float16"),
        ('fail-on = "sometimes"', "fail-on"),
    ],
)
def test_a_mistake_in_the_policy_is_one_clear_line(tmp_path, text, told):
    with pytest.raises(DoctorError, match=told) as failure:
        settings(tmp_path, f"[tool.doctor.gate]\n{text}\n")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("path", "wanted", "expected"),
    [
        ("r.sarif", None, "sarif"),
        ("r.xml", None, "junit"),
        ("r.md", None, "markdown"),
        ("r.html", None, "html"),
        ("r.json", None, "json"),
        ("r.json", "gitlab", "gitlab"),
        ("r.sarif", "github", "sarif"),
        ("r.out", "junit", "junit"),
        ("r.out", None, "text"),
    ],
)
def test_the_format_of_a_file(path, wanted, expected):
    assert format_of(path, wanted) == expected


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"a.weight": numpy.ones((64, 64), numpy.float32)}, "net.safetensors")
    return tmp_path


def gate(*arguments, **environment):
    return CliRunner().invoke(main, ["gate", "net.safetensors", *arguments], env=environment)


def test_size_and_format_are_held_against_the_policy(artifact):
    assert gate().exit_code == 0
    (artifact / "pyproject.toml").write_text('[tool.doctor.gate]\nmax-size = "1 kB"\nselect = ["FIL001"]\n')
    done = gate("--format", "concise")
    assert done.exit_code == 1
    assert "FIL007 oversized-artifact" in done.output
    (artifact / "pyproject.toml").write_text('[tool.doctor.gate]\nmax-size = "1 MB"\nformats = ["onnx"]\n')
    assert "FIL008 unwanted-format" in gate("--format", "concise").output
    (artifact / "pyproject.toml").write_text('[tool.doctor.gate]\nmax-size = "1 MB"\nformats = ["safetensors"]\n')
    assert gate().exit_code == 0


def test_several_files_at_once_and_annotations_on_the_stream(artifact):
    (artifact / "net.safetensors").write_bytes((artifact / "net.safetensors").read_bytes()[:-8])
    summary = artifact / "summary.md"
    summary.write_text("before\n")
    done = gate(
        "--format", "github", "--output", "out/r.sarif", "--output", "r.xml", "--output", "gitlab=quality.json",
        GITHUB_STEP_SUMMARY=str(summary), GITHUB_WORKSPACE=str(artifact),
    )  # fmt: skip
    assert done.exit_code == 1
    assert done.output.startswith("::error title=FIL001 corrupt-file,file=net.safetensors::")
    assert json.loads((artifact / "out/r.sarif").read_text())["version"] == "2.1.0"
    assert (artifact / "r.xml").read_text().startswith("<?xml")
    assert json.loads((artifact / "quality.json").read_text())[0]["severity"] == "critical"
    assert summary.read_text().startswith("before\n<!-- doctor report -->")


def test_what_went_to_a_file_in_the_asked_format_is_not_told_twice(artifact):
    assert gate("--format", "json", "--output", "report.json").output == ""


def test_an_unknown_format_and_a_path_that_cannot_be_written_are_one_clear_line(artifact):
    done = gate("--output", "pdf=report.pdf")
    assert done.exit_code == 2
    assert 'no format "pdf"' in done.output
    (artifact / "taken").write_text("")
    done = gate("--output", "taken/report.html")
    assert done.exit_code == 2
    assert "cannot be written" in done.output


def test_the_format_never_changes_the_status(artifact):
    from doctor.reports import FORMATS

    assert {gate("--format", format_).exit_code for format_ in FORMATS} == {0}
    (artifact / "net.safetensors").write_bytes((artifact / "net.safetensors").read_bytes()[:-8])
    assert {gate("--format", format_).exit_code for format_ in FORMATS} == {1}
