"""GitHub annotations: one command a line, read back by the runner as written."""

import re
from urllib.parse import unquote

from doctor.findings import Location, Severity
from doctor.reports import github


def commands(text):
    """What GitHub's runner makes of the output: command, properties, message."""
    found = []
    for line in text.splitlines():
        if match := re.match(r"::(error|warning|notice) ([^:]*)::(.*)$", line):
            pairs = dict(pair.split("=", 1) for pair in match[2].split(","))
            found.append((match[1], {key: unquote(value) for key, value in pairs.items()}, unquote(match[3])))
    return found


def test_a_cause_is_annotated_at_its_line_and_the_log_is_readable(diagnosed):
    [(command, properties, message)] = commands(github.render(diagnosed))
    assert command == "error"
    assert properties == {"title": "LOS004 broadcast-loss", "file": "train.py", "line": "12", "endLine": "12"}
    assert message.startswith("train.py:12: mse_loss of shapes")


def test_no_text_can_inject_a_command_or_a_property(nasty):
    text = github.render(nasty)
    found = commands(text)
    assert len(found) == len([line for line in text.splitlines() if line.startswith("::")])
    assert [command for command, _, _ in found] == ["error", "warning"]
    _command, properties, message = found[0]
    assert set(properties) == {"title", "file", "line", "endLine"}
    assert properties["file"].endswith("src/na\\xefve, a:b%20\n.py")
    assert "::error file=x::injected" in message
    assert "\x1b" not in text


def test_what_github_would_drop_is_counted(finding, report_of):
    many = [finding(message=f"layer {i}", location=Location(path="train.py", line=i)) for i in range(1, 14)]
    text = github.render(report_of(*many, finding("LOS001", severity=Severity.WARNING)))
    assert [command for command, _, _ in commands(text)] == ["error"] * 10 + ["warning"]
    assert text.splitlines()[-1].endswith("3 more errors not annotated")


def test_symptoms_infos_and_accepted_findings_are_not_annotated(finding, report_of):
    report = report_of(
        finding(severity=Severity.INFO),
        finding(suppressed={"by": "comment", "why": "x"}),
        finding(),
        finding(caused_by=2),
    )
    assert len(commands(github.render(report))) == 1


def test_paths_are_relative_to_the_checkout(judged):
    assert commands(github.render(judged))[0][1]["file"] == "models/net.safetensors"
