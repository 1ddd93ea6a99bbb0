"""Optimizers that never step, on evidence made by hand."""

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.program_run import ProgramRun
from doctor.testing import findings_of

HERE = Source("train.py", 12)


def log(*steps, parameters=("0.weight", "0.bias")):
    made = [
        OptimizerRecord(index, "AdamW", parameters, created=HERE, backward_source=HERE, steps=count)
        for index, count in enumerate(steps)
    ]
    return OptimizerLog(tuple(made), backwards=60, steps=sum(steps), backward_source=HERE)


def test_backwards_without_a_step_fire_at_the_backward():
    (finding,) = findings_of("OPT004", ProgramRun("finished"), log(0))
    assert (finding.level, finding.location.line) == ("error", 12)


def test_the_only_step_in_the_text_is_the_place_when_it_was_never_reached():
    guarded = DataLines((DataLine("step", "step", Source("train.py", 15)),))
    (finding,) = findings_of("OPT004", ProgramRun("finished"), log(0), guarded)
    assert finding.location.line == 15
    several = DataLines((*guarded.lines, DataLine("step", "step", Source("train.py", 40))))
    assert findings_of("OPT004", ProgramRun("finished"), log(0), several)[0].location.line == 12


def test_an_optimizer_that_another_one_has_taken_over_from_is_silent():
    assert not findings_of("OPT004", ProgramRun("finished"), log(0, 1, 1, 1))


def test_a_second_optimizer_of_its_own_parameters_that_is_never_stepped_fires():
    forgotten = OptimizerRecord(1, "AdamW", ("1.weight",), backward_source=HERE)
    both = OptimizerLog((*log(60).optimizers, forgotten), backwards=60, steps=60, backward_source=HERE)
    assert [f.name for f in findings_of("OPT004", ProgramRun("finished"), both)] == ["missing-step"]


class TestThrownAway:
    def record(self, **changes):
        facts = {"steps": 10, "discarded": 70, "fresh_steps": 10, "zero_grads": 80, **changes}
        made = OptimizerRecord(0, "Adam", (), step_source=HERE, zero_grad_source=Source("train.py", 8), **facts)
        return OptimizerLog((made,), backwards=80, steps=10)

    def test_gradients_cleared_before_a_step_outside_the_loop_fire_at_the_step(self):
        (finding,) = findings_of("OPT004", ProgramRun("finished"), self.record())
        assert (finding.name, finding.location.line) == ("missing-step", 12)
        assert "70 of 80 backwards" in finding.message

    def test_they_fire_at_the_clearing_where_the_step_waits_for_a_number_of_batches(self):
        guarded = DataLines((DataLine("step", "step", Source("train.py", 11)),))
        assert findings_of("OPT004", ProgramRun("finished"), self.record(), guarded)[0].location.line == 8

    def test_accumulation_a_first_of_two_passes_and_gradients_put_in_place_by_hand_are_silent(self):
        for facts in ({"discarded": 0}, {"discarded": 12}, {"fresh_steps": 0}):
            assert not findings_of("OPT004", ProgramRun("finished"), self.record(**facts))
