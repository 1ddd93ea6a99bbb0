"""JUnit: what a build server counts."""

from xml.etree import ElementTree

from doctor.findings import Location, Severity
from doctor.reports import junit


def suite_of(report, failing=Severity.WARNING):
    text = junit.render(report, failing=failing)
    return ElementTree.fromstring(text.encode("utf-8"))[0]


def case(suite, code):
    return next(one for one in suite if one.get("name").startswith(code))


def test_each_rule_is_a_case_and_the_counts_agree(diagnosed):
    suite = suite_of(diagnosed)
    summary = diagnosed.summary
    assert len(suite) == int(suite.get("tests")) == summary.rules_run + summary.rules_skipped
    assert int(suite.get("skipped")) == summary.rules_skipped
    assert len(suite.findall("testcase/failure")) == int(suite.get("failures")) == 1
    failed = case(suite, "LOS004")
    assert (failed.get("file"), failed.get("line"), failed.get("classname")) == ("train.py", "12", "doctor.loss")
    assert "cure: give both the same shape" in failed[0].text
    assert not len(case(suite, diagnosed.fine[0]))


def test_what_does_not_fail_the_run_is_no_failure(diagnosed):
    assert not suite_of(diagnosed, failing=None).findall("testcase/failure")
    assert case(suite_of(diagnosed, failing=None), "LOS004").find("system-out") is not None


def test_hostile_texts_are_well_formed_xml(nasty):
    suite = suite_of(nasty)
    failure = case(suite, "OPT003").find("failure")
    assert "\\x1b[31m\\x00" in failure.get("message")
    assert "</script><script>" in failure.text
    assert "]]>" in failure.text
    assert "\\ud800" in failure.text
    assert "\n" not in failure.get("message")
    assert case(suite, "DAT019").find("skipped") is not None


def test_a_rule_that_crashed_is_an_error_and_an_accepted_finding_passes(nasty):
    suite = suite_of(nasty)
    assert case(suite, "DAT026").find("error").get("message") == "crashed (KeyError: 1)"
    accepted = case(suite, "LOS004")
    assert accepted.find("failure") is None
    assert "suppressed by baseline" in accepted.find("system-out").text


def test_several_findings_of_one_rule_are_one_failure_that_tells_all(finding, report_of):
    twins = [finding(message=f"layer {i}", location=Location(path="train.py", line=i)) for i in (1, 2, 3)]
    suite = suite_of(report_of(*twins))
    assert suite.get("failures") == "1"
    failure = case(suite, "OPT003").find("failure")
    assert failure.get("message") == "layer 1 (and 2 more)"
    assert all(f"layer {i}" in failure.text for i in (1, 2, 3))
