"""GitLab code quality."""

import json

from doctor.findings import Location
from doctor.reports import gitlab

REQUIRED = {"description", "check_name", "fingerprint", "severity", "location"}


def entries(report):
    return json.loads(gitlab.render(report))


def test_every_entry_has_what_gitlab_asks_for(diagnosed, nasty):
    for entry in [*entries(diagnosed), *entries(nasty)]:
        assert set(entry) == REQUIRED
        assert entry["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert entry["location"]["lines"]["begin"] >= 1
        assert not entry["location"]["path"].startswith("./")
        assert "\n" not in entry["description"]


def test_a_diagnosis(diagnosed):
    first = entries(diagnosed)[0]
    assert first["check_name"] == "LOS004 broadcast-loss"
    assert first["location"] == {"path": "train.py", "lines": {"begin": 12}}
    assert first["severity"] == "critical"


def test_fingerprints_are_unique_and_accepted_findings_are_left_out(finding, report_of):
    twins = [finding(location=Location(path="train.py", line=i)) for i in (1, 2)]
    found = entries(report_of(*twins, finding("LOS004", suppressed={"by": "comment", "why": "x"})))
    assert len(found) == 2
    assert found[0]["fingerprint"] != found[1]["fingerprint"]
