"""Declaration, selection and running of rules."""

import ast
import re
from dataclasses import dataclass

import pytest

from doctor import probes, registry
from doctor.errors import DeclarationError, DoctorError, Unavailable
from doctor.evidence.base import Evidence, Given
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.recording import Recording
from doctor.findings import Finding, Severity
from doctor.registry import HEADINGS, check

RULES = registry.load()


@pytest.mark.parametrize("code", RULES)
def test_every_rule_documents_itself(code):
    rule = RULES[code]
    assert rule.summary.endswith(".")
    for heading in HEADINGS:
        assert rule.section(heading).strip(), heading
    blocks = [re.search(r"```python\n(.*?)```", rule.section(name), re.S)[1] for name in ("Example", "Use instead")]
    assert blocks[0] != blocks[1]
    for block in blocks:
        ast.parse(block)
    assert rule.faq


def test_every_evidence_that_a_rule_asks_for_has_a_probe():
    probes.load()
    for rule in RULES.values():
        for need in rule.needs:
            assert need.kind in probes.registered() or issubclass(need.kind, Given), (rule.code, need.kind)


def test_selection_by_code_prefix_name_and_family():
    assert [r.code for r in registry.select(RULES, ["OPT003"], [])] == ["OPT003"]
    assert {r.family for r in registry.select(RULES, ["loss"], [])} == {"loss"}
    assert all(r.code.startswith("GRD") for r in registry.select(RULES, ["GRD"], []))
    assert "OPT003" not in {r.code for r in registry.select(RULES, [], ["missing-zero-grad"])}


def test_an_unknown_rule_is_answered_with_the_nearest():
    with pytest.raises(DoctorError, match=r"did you mean OPT003 \(missing-zero-grad\)"):
        registry.select(RULES, ["missing-zero-gradient"], [])


def test_a_threshold_that_does_not_exist_is_one_clear_line():
    with pytest.raises(DoctorError, match=r'OPT003\]: unknown key "min_step"; known: min_steps'):
        registry.limits_for(RULES["OPT003"], {"OPT003": {"min_step": 5}})


def test_thresholds_can_be_overridden_by_name_or_code():
    assert registry.limits_for(RULES["OPT003"], {"missing-zero-grad": {"min-steps": "7"}}).min_steps == 7


def test_a_code_is_taken_once():
    with pytest.raises(DeclarationError, match="OPT003 is already"):

        @check("OPT003", "another", Severity.INFO)
        def another(log: OptimizerLog):
            yield Finding(message="never")


def test_missing_evidence_skips_a_rule_with_the_probes_reason():
    outcome = registry.run_one(RULES["OPT003"], {}, {})
    assert isinstance(outcome, registry.Skip)
    assert not outcome.crashed


def test_a_rule_that_crashes_is_named_and_ends_nothing():
    class Broken(Evidence):
        pass

    broken = OptimizerLog(optimizers=(OptimizerRecord(0, "SGD", (), carried=None),))  # type: ignore[arg-type]
    findings, skipped = registry.run([RULES["OPT003"], RULES["OPT005"]], {OptimizerLog: broken}, {})
    assert findings == []
    assert [skip.rule for skip in skipped] == ["OPT003"]
    assert "crashed" in skipped[0].reason


@dataclass(frozen=True)
class Sheet(Given):
    """What a subject of another kind gives."""


def test_a_rule_concerns_the_subjects_that_give_its_evidence(monkeypatch):
    monkeypatch.setattr(registry, "_looks", {})

    @registry.look("OPT003")
    def on_a_sheet(sheet: Sheet):
        """Another look."""
        yield Finding(message="seen on a sheet")

    rule = RULES["OPT003"]
    on_sheets = rule.looks_at([Sheet])
    assert [look.function for look in on_sheets] == [on_a_sheet]
    assert rule.looks_at([Recording]) == (rule,)
    findings, skipped = registry.run(on_sheets, {Sheet: Sheet()}, {"OPT003": {"min_steps": 5}})
    assert [(finding.rule, finding.message) for finding in findings] == [("OPT003", "seen on a sheet")]
    assert not skipped


def test_a_rule_is_skipped_when_none_of_its_looks_could_look(monkeypatch):
    monkeypatch.setattr(registry, "_looks", {})

    @registry.look("OPT003")
    def on_a_sheet(sheet: Sheet):
        """Another look."""
        yield Finding(message="seen on a sheet")

    looks = RULES["OPT003"].looks
    assert not registry.run(looks, {Sheet: Sheet()}, {})[1]
    assert [skip.rule for skip in registry.run(looks, {}, {})[1]] == ["OPT003"]


def test_two_modules_may_call_their_looks_by_one_name(monkeypatch):
    monkeypatch.setattr(registry, "_looks", {})
    made = []
    for file in ("a.py", "b.py"):
        scope = {"registry": registry, "Sheet": Sheet, "Finding": Finding}
        text = "@registry.look('OPT003')\ndef seen(sheet: Sheet):\n    yield Finding(message='x')\n"
        exec(compile(text, file, "exec"), scope)
        made.append(scope["seen"])
    assert [look.function for look in RULES["OPT003"].looks_at([Sheet])] == made


def test_what_was_not_to_be_had_is_not_asked_for_again(monkeypatch):
    asked = []

    @dataclass(frozen=True)
    class Missing(Evidence):
        """Never to be had."""

    def look_for(sheet: Sheet):
        asked.append(sheet)
        raise Unavailable("nothing there")

    look_for.__annotations__ = {"sheet": Sheet, "return": Missing}
    monkeypatch.setattr(probes, "_probes", {Missing: probes.Probe(Missing, look_for)})
    first = probes.gather([Sheet()], [Missing])
    assert str(probes.gather((), [Missing], first)[Missing]) == "nothing there"
    assert len(asked) == 1
