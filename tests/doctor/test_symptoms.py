"""Findings of one cause stand together, and nothing is lost."""

from doctor.findings import Finding, Severity
from doctor.ranking import ranked
from doctor.symptoms import grouped


def finding(rule, fault, level=Severity.ERROR, follows=()):
    return Finding(message=rule, rule=rule, faults=(fault,), severity=level, follows_from=follows)


def causes(*findings):
    return [one.caused_by for one in grouped(findings)]


def test_what_a_rule_says_again_stands_under_its_first():
    one, two = finding("IOC004", "wrong-io-signature"), finding("IOC004", "dtype-mismatch")
    assert causes(one, finding("FIL002", "unsafe-pickle"), two) == [None, None, 0]


def test_a_symptom_stands_under_the_cause_that_another_rule_names():
    outputs = finding("IOC001", "output-mismatch", follows=("nan-weights",))
    weights = finding("WGT001", "nan-weights")
    assert causes(outputs, weights) == [1, None]
    assert causes(outputs, finding("IOC003", "fixed-batch-dim")) == [None, None]


def test_hints_are_no_causes_and_no_symptoms():
    outputs = finding("IOC001", "output-mismatch", follows=("nan-weights",))
    assert causes(outputs, finding("WGT001", "nan-weights", Severity.INFO)) == [None, None]


def test_two_that_explain_each_other_have_one_cause():
    one = finding("IOC001", "dtype-overflow", follows=("nan-weights",))
    two = finding("IOC012", "nan-weights", follows=("dtype-overflow",))
    found = causes(one, two, one, two)
    (root,) = [i for i, cause in enumerate(found) if cause is None]
    assert {cause for i, cause in enumerate(found) if i != root} == {root}


def test_every_finding_is_still_told():
    outputs = finding("IOC001", "output-mismatch", follows=("nan-weights",))
    order = ranked(grouped([outputs, finding("WGT001", "nan-weights"), finding("WGT001", "nan-weights")]))
    assert [one.rule for one in order] == ["WGT001", "IOC001", "WGT001"]
    assert [one.caused_by for one in order] == [None, 0, 0]
    assert "follows_from" not in order[1].model_dump()


def test_of_a_program_only_what_a_rule_names_as_its_cause_is_a_symptom():
    missing = finding("DAT001", "missing-values")
    crash = finding("ARC002", "program-crash", follows=("missing-values",))
    again = finding("DAT001", "missing-values")
    assert [f.caused_by for f in grouped([crash, missing, again], repeats=False)] == [1, None, None]
