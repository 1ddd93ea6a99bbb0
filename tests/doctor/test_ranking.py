"""The most probable root cause stands first."""

from doctor.findings import Effect, Finding, Nature, Severity, Verdict
from doctor.ranking import prior, ranked


def finding(name, nature=Nature.MISTAKE, severity=Severity.ERROR, gain=None, **fields):
    effect = None if gain is None else Effect(statistic="loss", size=gain)
    verdict = Verdict.UNTESTED if gain is None else Verdict.CONFIRMED
    known = {"family": "optimizer", "verdict": verdict, "effect": effect, **fields}
    return Finding(message=name, name=name, nature=nature, severity=severity, **known)


def names(findings, side="unknown"):
    return [f.name for f in ranked(findings, side)]


def test_a_mistake_leads_the_rate_that_it_spoils():
    rate = finding("lr-too-high", Nature.OUTCOME, gain=0.9)
    scale = finding("unnormalized-inputs", severity=Severity.WARNING, gain=0.5)
    assert names([rate, scale]) == ["unnormalized-inputs", "lr-too-high"]


def test_a_proven_rate_leads_a_warning_that_no_trial_proved():
    rate = finding("lr-too-high", Nature.OUTCOME, gain=0.9)
    graph = finding("missing-no-grad", severity=Severity.WARNING, demonstrated="seen")
    assert names([graph, rate]) == ["lr-too-high", "missing-no-grad"]


def test_a_crash_leads_everything():
    assert names([finding("zero-init", gain=1.0), finding("shape-mismatch", Nature.CRASH)])[0] == "shape-mismatch"


def test_the_side_of_the_differential_diagnosis_decides_between_equals():
    data, rate = finding("label-noise", family="data"), finding("bad-momentum")
    assert names([rate, data], "data")[0] == "label-noise"
    assert names([rate, data], "optimizer")[0] == "bad-momentum"


def test_a_proven_mistake_leads_wherever_the_differential_diagnosis_points():
    sign = finding("loss-sign", family="loss", verdict=Verdict.CONFIRMED)
    clipped = finding("exploding-gradients", Nature.CONDITION, family="gradients", gain=0.9)
    assert names([clipped, sign], "optimizer")[0] == "loss-sign"


def test_symptoms_follow_their_cause_wherever_it_goes():
    cause = finding("missing-zero-grad", gain=0.8)
    symptom = finding("exploding-gradients", Nature.CONDITION, caused_by=2)
    result = ranked([symptom, finding("other", severity=Severity.INFO), cause])
    assert [(f.name, f.caused_by) for f in result] == [
        ("missing-zero-grad", None),
        ("exploding-gradients", 0),
        ("other", None),
    ]


def test_what_was_observed_is_tried_before_what_is_suspected():
    seen, suspected = finding("a", demonstrated="seen"), finding("b")
    assert prior(seen) < prior(suspected) < prior(finding("c", Nature.CONDITION))
