"""Personal data and secrets in texts: found by pattern and checksum, shown masked, look-alikes left alone."""

import pandas as pd
import pytest

from doctor import diagnose_data
from doctor.evidence.text_scan import card, iban, masked, phone, social_security
from doctor.findings import Severity

PLAIN = [
    "the parcel arrived late",
    "order 4539578763621480 was fine",
    "call us any time",
    "room 123-45, floor 6",
    "v1.2.3-4567",
]


def texts(*special, rows=200):
    values = [f"{PLAIN[i % len(PLAIN)]} ({i})" for i in range(rows)]
    for place, text in enumerate(special):
        values[10 + place] = f"{values[10 + place]} {text} thanks"
    return pd.DataFrame({"text": values, "stars": [i % 5 for i in range(rows)]})


def found(frame):
    report = diagnose_data(frame, select=("PRV001", "PRV002"))
    return [f for f in report.findings if f.level is Severity.ERROR]


SECRETS = {
    "key block": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "cloud key": "AKIA" + "Q3EGNX4Y7T2LMV5K",
    "token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "assignment": "api_key = 'f3Zq81LmPx7TtVb2'",
}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("jane.doe@mail.acme.org", "PRV001"),
        ("4111 1111 1111 1111", "PRV001"),
        ("DE89 3704 0044 0532 0130 00", "PRV001"),
        ("078-05-1120", "PRV001"),
        *((text, "PRV002") for text in SECRETS.values()),
    ],
)
def test_one_value_is_found_in_its_row_and_masked(text, rule):
    findings = found(texts(text))
    assert {f.rule for f in findings} == {rule}
    assert [row for _, _, row in findings[0].rows.every] == [10]
    assert text not in str(findings)
    assert text.replace(" ", "")[4:-4] not in str(findings)


def test_phone_numbers_are_found_when_there_are_some():
    assert not found(texts("+49 170 1234567"))
    (finding,) = found(texts("+49 170 1234567", "(212) 555-0187", "+1 415-555-2671"))
    assert finding.measured["rows"].value == 3


@pytest.mark.parametrize(
    "text",
    ["someone@example.com", "4539 5787 6362 1481", "DE89 3704 0044 0532 0130 01", "000-12-3456", "2024-05-06", "sk-short",
     "api_key = 'your-key-goes-here'", "the password: forgotten yesterday", "order 1234567890123456", "0000-0000-0000-0000"],
)  # fmt: skip
def test_look_alikes_are_left_alone(text):
    assert not found(texts(*[text] * 5))


def test_checksums():
    assert card("4111111111111111") is False or card("4539578763621486")
    assert iban("GB82WEST12345698765432")
    assert not iban("GB82WEST12345698765433")
    assert social_security("219-09-9999")
    assert not social_security("666-12-1234")
    assert phone("+49 170 1234567")
    assert masked("jane.doe@acme.org") == "ja******rg"
