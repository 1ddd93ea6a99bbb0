"""Accepted findings: comments, the baseline, and what of them suppresses nothing."""

import json
from datetime import date

import pytest
from click.testing import CliRunner

from doctor import baseline, suppressions
from doctor.baseline import Accepted, Baseline
from doctor.cli import main
from doctor.errors import DoctorError
from doctor.findings import Finding, Location, Severity
from doctor.report import Report, SubjectSummary, summarise

TODAY = date(2026, 11, 25)


def finding(line=3, rule="OPT003", name="missing-zero-grad", **fields):
    given = {"message": "gradients stay", "severity": Severity.ERROR, "location": Location(path="train.py", line=line)}
    return Finding(rule=rule, name=name, family="optimizer", **{**given, **fields})


def report_of(*findings, fine=("LOS004",)):
    subject = SubjectSummary(kind="program", target="train.py")
    return Report(subject=subject, summary=summarise(findings, (), fine, 1.0, 0), findings=findings, fine=fine)


def commented(write_script, text, *findings, **more):
    write_script(text)
    return suppressions.with_comments(report_of(*findings, **more))


def test_a_comment_on_the_line_accepts_the_finding_and_keeps_it_in_the_report(write_script):
    report = commented(write_script, "a\nb\nloss.backward()  # doctor: ignore[OPT003] two optimizers\n", finding())
    assert report.findings[0].suppressed == {"by": "comment", "why": "two optimizers"}
    assert report.active == ()
    assert not report.fails(Severity.INFO)
    assert (report.summary.errors, report.summary.suppressed) == (0, 1)


@pytest.mark.parametrize(
    "form", ["#doctor:ignore[missing-zero-grad]", "# noqa  # doctor: ignore[LOS004, OPT003] - why"]
)
def test_names_lists_and_other_comments_are_read(write_script, form):
    found = commented(write_script, f"a\nb\nloss.backward() {form}\n", finding()).findings[0].suppressed
    assert found == {"by": "comment", "why": "why" if "why" in form else "no reason given"}


def test_a_comment_speaks_for_its_whole_statement_and_for_no_other(write_script):
    text = "a\nb\nloss = f(\n    x,  # doctor: ignore[OPT003] here\n    y,\n)\nother()\n"
    report = commented(write_script, text, finding(3), finding(5), finding(7))
    assert [one.suppressed is not None for one in report.findings] == [True, True, False]


def test_a_string_is_no_comment(write_script):
    report = commented(write_script, 'a\nb\ns = "# doctor: ignore[OPT003] no"\n', finding())
    assert report.findings[0].suppressed is None


def test_another_rules_comment_does_not_help_and_is_told_as_unused(write_script):
    report = commented(write_script, "a\nb\nloss.backward()  # doctor: ignore[LOS004] x\n", finding())
    assert report.findings[0].suppressed is None
    assert report.unused_suppressions == ("train.py:3: ignore[LOS004]",)


def test_a_rule_that_could_not_look_is_not_told_as_unused(write_script):
    report = commented(write_script, "a\nb\nc()  # doctor: ignore[LOS004] x\n", finding(1), fine=())
    assert report.unused_suppressions == ()


def test_a_bare_ignore_and_an_unknown_rule_are_told(write_script):
    report = commented(write_script, "a\nb()  # doctor: ignore\nc()  # doctor: ignore[OPT03] x\n", finding(3))
    assert report.findings[0].suppressed is None
    assert any("train.py:2: doctor: ignore names no rule" in note for note in report.notes)
    assert any("did you mean OPT003" in note for note in report.notes)


@pytest.mark.parametrize("text", ["def f(:\n  'x\n", "\x00", "# coding: nonsense\nx\n", "(((\n"])
def test_a_file_that_is_no_python_suppresses_nothing_and_ends_nothing(write_script, text):
    assert commented(write_script, text, finding()).findings[0].suppressed is None


def test_symptoms_of_an_accepted_cause_stand_for_themselves(write_script):
    symptom = finding(9, "GRD002", "exploding-gradients", caused_by=0)
    report = commented(write_script, "a\nb\nc()  # doctor: ignore[OPT003] x\n", finding(), symptom)
    assert [one.rule for one in report.causes] == ["GRD002"]
    assert "GRD002" in report.text


def accepted(one, **more):
    given = {"fingerprint": one.fingerprint, "rule": one.rule, "reason": "known", "by": "ann", "added": TODAY}
    return Accepted(**{**given, **more})


def test_the_baseline_accepts_by_fingerprint_wherever_the_line_went():
    known = Baseline(accepted=(accepted(finding(3)),))
    report = suppressions.with_baseline(report_of(finding(40)), known, TODAY)
    assert report.findings[0].suppressed == {"by": "baseline", "why": "known (ann, 2026-11-25)"}


def test_one_entry_accepts_one_finding():
    known = Baseline(accepted=(accepted(finding()),))
    report = suppressions.with_baseline(report_of(finding(3), finding(30)), known, TODAY)
    assert [one.suppressed is not None for one in report.findings] == [True, False]


def test_an_expired_entry_fails_again_and_is_told():
    known = Baseline(accepted=(accepted(finding(), expires=date(2026, 11, 24), name="missing-zero-grad"),))
    report = suppressions.with_baseline(report_of(finding()), known, TODAY)
    assert report.fails(Severity.ERROR)
    assert report.notes == ("accepted until 2026-11-24, and fails again: OPT003 missing-zero-grad; it was: known",)
    on_its_last_day = suppressions.with_baseline(report_of(finding()), known, date(2026, 11, 24))
    assert not on_its_last_day.fails(Severity.ERROR)


def test_an_entry_whose_finding_is_gone_is_told_as_unused():
    known = Baseline(accepted=(accepted(finding(), fingerprint="0" * 16, rule="LOS004"),))
    report = suppressions.with_baseline(report_of(finding()), known, TODAY)
    assert report.unused_suppressions == ("baseline entry 0000000000000000: LOS004",)


def test_renewing_keeps_reasons_drops_what_is_gone_and_keeps_what_nobody_looked_for():
    old = Baseline(
        accepted=(
            accepted(finding(), reason="ours"),
            accepted(finding(), fingerprint="1" * 16, rule="LOS004"),
            accepted(finding(), fingerprint="2" * 16, rule="DAT001"),
        )
    )
    report = report_of(finding(), finding(5, "OPT001", "lr-too-high"), finding(6, severity=Severity.INFO))
    new = baseline.renewed(old, report, Severity.WARNING, "today", date(2027, 1, 1), TODAY)
    assert [(entry.rule, entry.reason) for entry in new.accepted] == [
        ("OPT003", "ours"),
        ("OPT001", "today"),
        ("DAT001", "known"),
    ]
    assert new.accepted[1].expires == date(2027, 1, 1)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2}', '{"accepted": [{"fingerprint": "x"}]}', '{"accepted": [], "more": 1}']
)
def test_a_malformed_baseline_is_one_clear_line(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(DoctorError, match="is no baseline"):
        baseline.load(path)


def test_no_baseline_is_one_clear_line(tmp_path):
    with pytest.raises(DoctorError, match="no baseline"):
        baseline.load(tmp_path / "none.json")


def test_what_is_unsafe_is_accepted_of_this_very_file_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt").write_bytes(b"known")
    unsafe = finding(rule="FIL002", name="unsafe-pickle", faults=("unsafe-pickle",), location=Location(path="net.pt"))
    report = report_of(unsafe)
    known = baseline.renewed(Baseline(), report, Severity.ERROR, "our own", None, TODAY)
    assert suppressions.with_baseline(report, known, TODAY).findings[0].suppressed
    (tmp_path / "net.pt").write_bytes(b"other")
    again = suppressions.with_baseline(report, known, TODAY)
    assert again.fails(Severity.ERROR)
    assert "another content of net.pt" in again.notes[0]


def test_the_baseline_from_the_shell(tmp_path, monkeypatch):
    import numpy
    from safetensors.numpy import save_file

    monkeypatch.chdir(tmp_path)
    save_file({"a": numpy.ones(8, numpy.float32)}, "net.safetensors")
    broken = (tmp_path / "net.safetensors").read_bytes()[:-8]
    (tmp_path / "net.safetensors").write_bytes(broken)

    def gate(*arguments):
        return CliRunner().invoke(main, ["gate", "net.safetensors", *arguments])

    assert gate().exit_code == 1
    assert gate("--write-baseline", "base.json").exit_code == 2  # no reason given
    assert gate("--reason", "x").exit_code == 2
    done = gate("--write-baseline", "base.json", "--reason", "delivered so", "--expires", "2999-12-31")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "base.json").read_text())["accepted"][0]["expires"] == "2999-12-31"
    assert gate("--baseline", "base.json").exit_code == 0
    (tmp_path / "pyproject.toml").write_text('[tool.doctor]\nbaseline = "base.json"\n')
    shown = gate("-v")
    assert shown.exit_code == 0
    assert "by baseline: delivered so" in shown.output
    assert "healthy" not in shown.output
    assert gate("--baseline", "none.json").exit_code == 2
