"""Sums where a mean was meant: only in trouble, and only where the scale matters."""

from doctor.evidence.base import Source
from doctor.evidence.loss_terms import LossTerms, Term
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")
SUMMED = LossTerms((Term("squared error", HERE, reduction="sum", elements=64),), HERE)
DIVIDED = LossTerms((Term("cross-entropy", HERE, scale=1 / 64, reduction="mean"),), HERE, divided_source=HERE)
RISING = [1.0 * 1.2**i for i in range(20)]
FALLING = [100.0 * 0.9**i for i in range(20)]


def trace(losses, ratio):
    return TrainingTrace(tuple(Step(i, 0, loss, 0.1, 1.0, 10.0, ratio) for i, loss in enumerate(losses)), HERE)


def log(kind="SGD", backwards=1.0):
    return OptimizerLog((OptimizerRecord(0, kind, ("w",), backwards_per_step=backwards),))


def test_a_sum_under_gradient_descent_that_diverges_fires():
    (finding,) = findings_of("LOS010", SUMMED, trace(RISING, 0.1), log())
    assert (finding.name, finding.location.line) == ("reduction-scale", 7)
    assert (finding.treatment.kind, finding.treatment.factor) == ("scale-gradients", 1 / 64)


def test_a_sum_that_trains_is_silent():
    assert not findings_of("LOS010", SUMMED, trace(FALLING, 0.01), log())


def test_a_sum_under_adam_is_silent():
    assert not findings_of("LOS010", SUMMED, trace(RISING, 0.1), log("Adam"))


def test_a_mean_divided_by_the_batch_that_stands_still_fires():
    (finding,) = findings_of("LOS010", DIVIDED, trace([2.3] * 20, 1e-5), log())
    assert finding.treatment.factor == 64


def test_division_by_accumulated_batches_is_silent():
    assert not findings_of("LOS010", DIVIDED, trace([2.3] * 20, 1e-5), log(backwards=64.0))
