"""Parameters that are stepped twice."""

from doctor.evidence.base import Source
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.step_log import GroupRecord, OptimizerGroups, RepeatedStep, StepLog
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")


def log(kind="SGD"):
    return OptimizerLog(tuple(OptimizerRecord(i, kind, ("a",), created=HERE, steps=40) for i in (0, 1)), steps=80)


def test_a_tensor_held_twice_fires_where_the_optimizer_is_made():
    steps = StepLog(groups=(OptimizerGroups(0, (GroupRecord(6),), held_twice=2),))
    (finding,) = findings_of("OPT007", log(), steps)
    assert (finding.name, finding.location.line) == ("duplicate-params", 7)


def test_a_second_step_on_the_same_gradient_fires_on_its_line():
    steps = StepLog(repeated=(RepeatedStep(0, 0, True, 20, Source("train.py", 30), HERE),))
    (finding,) = findings_of("OPT007", log(), steps)
    assert finding.location.line == 30


def test_two_optimizers_on_one_gradient_fire():
    steps = StepLog(repeated=(RepeatedStep(1, 0, False, 20, Source("train.py", 31), HERE, shared=4),))
    assert "another optimizer" in findings_of("OPT007", log(), steps)[0].message


def test_a_few_repeats_lbfgs_and_plain_groups_are_silent():
    plain = (OptimizerGroups(0, (GroupRecord(6),)),)
    assert not findings_of("OPT007", log(), StepLog(groups=plain, repeated=(RepeatedStep(0, 0, True, 2, HERE),)))
    assert not findings_of("OPT007", log("LBFGS"), StepLog(repeated=(RepeatedStep(0, 0, True, 20, HERE),)))
