"""The JSON report keeps to its published schema."""

import json

import jsonschema

from doctor import registry
from doctor.reports import json as json_report

SCHEMA = json.loads(json_report.schema())


def test_reports_of_every_kind_keep_to_the_schema(diagnosed, judged, nasty, report_of):
    for report in (diagnosed, judged, nasty, report_of()):
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json_report.render(report)))


def test_the_schema_tells_its_version_and_what_came_with_it(diagnosed):
    document = json_report.document(diagnosed)
    assert document["schema_version"] == SCHEMA["properties"]["schema_version"]["default"] == "1.2"
    assert {"notes", "unused_suppressions"} <= SCHEMA["properties"].keys() & document.keys()
    assert set(document["findings"][0]) == set(SCHEMA["$defs"]["Finding"]["properties"])


def test_what_a_reader_of_the_first_version_used_is_still_there(diagnosed):
    document = json_report.document(diagnosed)
    top = {"schema_version", "doctor_version", "subject", "summary", "findings", "evidence", "skipped"}
    assert top <= document.keys()
    one = {"rule", "name", "faults", "family", "severity", "message", "location", "measured", "remedy", "fingerprint"}
    assert (
        one | {"suppressed", "related", "evidence_ref", "verdict", "effect", "caused_by"}
        <= document["findings"][0].keys()
    )


def test_a_rule_about_other_subjects_is_not_reported_as_fine(diagnosed, judged):
    rules = registry.load()
    assert not {rules[code].family for code in diagnosed.fine} & {"artifact", "io_contract"}
    assert {rules[code].family for code in judged.fine} <= {"artifact", "io_contract", "parameters", "data"}
