"""What the trial of a patched program makes of what it sees."""

import pytest

from doctor.evidence.recording import Recording
from doctor.findings import Finding, Location, Severity, Verdict
from doctor.trials.arms import Arm
from doctor.trials.patched import Patches
from doctor.trials.treatments import ClearGradients, EvaluateInEvalMode

SICK = "for x in d:\n    loss.backward()\n    opt.step()\n"
FLAT = tuple(2.0 + 0.001 * (i % 3) for i in range(30))
FALLING = tuple(2.0 * 0.9**i for i in range(30))


class Known:
    """Arms whose outcome is given."""

    def __init__(self, control, patched, **end):
        self.made = {
            False: Arm(control, recording=Recording(())),
            True: Arm(patched, recording=Recording(()).with_end(**end)),
        }

    def get(self, wanted, observed=()):
        return [self.made[bool(treatments)] for treatments, _ in wanted]


@pytest.fixture
def verdict(tmp_path, monkeypatch):
    """The verdict on the patch of a finding, given both curves and what the rules find in the patched program."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SICK)

    def judge(control, patched, found=(), end=None, **changes):
        fields = {"treatment": ClearGradients(), "severity": Severity.ERROR, "rule": "OPT003", **changes}
        finding = Finding(message="m", location=Location(path="train.py", line=2), **fields)
        arms = Known(control, patched, **(end or {"outcome": "finished"}))
        (done,) = Patches(arms, 2, lambda _: [finding] if found else [], None).prescribe([finding])
        return done.patch.verdict, done.patch.effect

    return judge


def test_a_patch_that_trains_better_is_proven(verdict):
    outcome, effect = verdict(FLAT, FALLING)
    assert outcome is Verdict.CONFIRMED
    assert effect.treated < effect.control


def test_a_patch_that_changes_nothing_is_not(verdict):
    assert verdict(FLAT, FLAT)[0] is not Verdict.CONFIRMED
    assert verdict(FALLING, FALLING, demonstrated="a fact")[0] is not Verdict.CONFIRMED


def test_a_fact_that_is_still_there_is_not_cured(verdict):
    assert verdict(FLAT, FALLING, found=True, demonstrated="a fact")[0] is Verdict.REFUTED


def test_a_patch_that_does_not_run_is_refuted_with_the_error(verdict):
    crash = {"outcome": "crashed", "crash": {"type": "IndexError", "message": "Dimension out of range"}}
    outcome, effect = verdict(FLAT, (), end=crash)
    assert outcome is Verdict.REFUTED
    assert "IndexError: Dimension out of range" in effect.note


def test_where_the_loss_cannot_tell_the_absence_of_the_finding_does(verdict):
    assert verdict(FLAT, FLAT, treatment=EvaluateInEvalMode(), edit=_edit())[0] is Verdict.CONFIRMED
    assert verdict(FLAT, FLAT, found=True, treatment=EvaluateInEvalMode(), edit=_edit())[0] is Verdict.REFUTED


def test_a_control_without_losses_is_beaten_by_one_that_learns(verdict):
    assert verdict((), FALLING, demonstrated="no backward")[0] is Verdict.CONFIRMED
    assert verdict((), FLAT[::-1], demonstrated="no backward")[0] is Verdict.INCONCLUSIVE


def _edit():
    from doctor.patches.edits import ClearGradients as Clear

    return Clear()
