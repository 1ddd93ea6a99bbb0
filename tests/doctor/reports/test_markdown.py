"""Markdown for merge requests."""

import re

from doctor.findings import Location
from doctor.reports import markdown


def test_a_diagnosis_reads_as_a_comment(diagnosed):
    text = markdown.render(diagnosed)
    assert text.startswith(markdown.MARK)
    assert "| 🔴 error | **LOS004** broadcast-loss | `train.py:12` |" in text
    assert "✔ confirmed" in text
    assert "```diff\n--- a/train.py" in text
    assert text.count("<details>") == text.count("</details>")


def test_hostile_texts_make_no_markup(nasty):
    text = markdown.render(nasty)
    outside_code = re.sub(r"(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)", "", text)
    assert "<script" not in outside_code
    assert "@all" not in outside_code
    assert " #1 " not in outside_code
    assert "\x1b" not in text
    assert "\x00" not in text
    rows = [line for line in text.splitlines() if line.startswith("| 🔴") or line.startswith("| 🟠")]
    assert rows
    for row in rows:
        unescaped = row.replace("\\|", "")
        assert unescaped.count("|") == 6


def test_a_comment_is_never_longer_than_github_takes(finding, report_of):
    many = [
        finding(message=f"layer {i} " + "x" * 800, location=Location(path="train.py", line=i)) for i in range(1, 200)
    ]
    text = markdown.render(report_of(*many))
    assert len(text) < 65_536


def test_a_clean_report_says_so(report_of):
    assert "✅ `train.py`: no error, no warning" in markdown.render(report_of())


def test_accepted_findings_are_told_with_their_reason(finding, report_of):
    text = markdown.render(report_of(finding(suppressed={"by": "comment", "why": "a GAN"})))
    assert "suppressed: 1" in text
    assert "a GAN" in text
