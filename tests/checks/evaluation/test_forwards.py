"""Modes and graphs of forwards, on evidence made by hand."""

from dataclasses import replace

from doctor.evidence.base import Source
from doctor.evidence.evaluation_log import EvaluationLog, EvaluationPlace, evaluation_log
from doctor.evidence.forward_log import Forward, ForwardLog, Holder, TwiceRun
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.evidence.recording import Recording
from doctor.testing import findings_of

TRAIN, EVAL, SLEEP = Source("train.py", 7), Source("train.py", 20), Source("train.py", 18)
AGAIN = Crash("RuntimeError", "Trying to backward through the graph a second time", Source("train.py", 9))


def forward(step, **changes):
    return Forward(**{"root": 0, "step": step, "source": TRAIN, "sensitive": 2, "used": (step,), **changes})


def asleep(step, **changes):
    return forward(step, **{"training": False, "asleep": 2, "slept": SLEEP, "evaluated_since": 3, **changes})


class TestMissingTrainMode:
    def test_eval_mode_that_stays_after_an_evaluation_fires_on_the_line_of_eval(self):
        (finding,) = findings_of("EVL002", ForwardLog((forward(0), forward(1), asleep(2), asleep(3))))
        assert (finding.name, finding.location.line) == ("missing-train-mode", 18)

    def test_set_back_before_the_end_is_silent(self):
        assert not findings_of("EVL002", ForwardLog((forward(0), asleep(1), forward(2))))

    def test_eval_mode_on_purpose_is_silent(self):
        chosen = [asleep(step, evaluated_since=0) for step in range(2, 6)]
        assert not findings_of("EVL002", ForwardLog((forward(0), *chosen)))
        assert not findings_of("EVL002", ForwardLog(tuple(chosen)))

    def test_only_normalisation_asleep_in_a_training_model_is_silent(self):
        partly = [forward(step, asleep=1, evaluated_since=2, slept=SLEEP) for step in range(4)]
        assert not findings_of("EVL002", ForwardLog(tuple(partly)))

    def test_a_model_without_such_layers_is_silent(self):
        assert not findings_of("EVL002", ForwardLog((forward(0), asleep(1, sensitive=0, asleep=0))))

    def test_statistics_of_no_batch_fire_from_the_start(self):
        log = ForwardLog(tuple(asleep(step, evaluated_since=0, fresh_norms=True) for step in range(3)))
        assert findings_of("EVL002", log)


class TestMissingNoGrad:
    def idle(self, **changes):
        return forward(5, **{"source": EVAL, "used": (), "training": False, **changes})

    def test_an_unused_graph_in_eval_mode_is_a_warning(self):
        (finding,) = findings_of("EVL003", ForwardLog((forward(0), self.idle())))
        assert (finding.level, finding.location.line) == ("warning", 20)

    def test_graphs_held_at_once_are_an_error(self):
        log = ForwardLog((forward(0), *(self.idle(held=n) for n in (1, 2, 3))))
        assert findings_of("EVL003", log)[0].level == "error"

    def test_saliency_uses_its_graph_and_is_silent(self):
        assert not findings_of("EVL003", ForwardLog((forward(0), self.idle(used=(5,)))))

    def test_a_detached_target_of_a_training_model_is_silent(self):
        log = ForwardLog((forward(0), *(self.idle(training=True, backward=n) for n in range(9))))
        assert not findings_of("EVL003", log)

    def test_parts_of_the_training_step_whose_graph_is_cut_off_are_silent(self):
        parts = [forward(n, source=EVAL, used=(), backward=n, held=3) for n in range(8) for _ in range(3)]
        trained = [forward(n, backward=n) for n in range(8)]
        assert not findings_of("EVL003", ForwardLog((*trained, *parts)))
        assert findings_of("EVL003", ForwardLog((*trained, *parts[:9])))


class TestGraphRetained:
    def test_one_graph_more_with_every_step_fires_on_the_holders_line(self):
        log = ForwardLog((forward(0),), tuple(range(12)), Holder("losses", EVAL))
        assert findings_of("EVL004", log)[0].location.line == 20

    def test_a_list_that_is_emptied_or_stays_short_is_silent(self):
        assert not findings_of("EVL004", ForwardLog((forward(0),), (0, 1, 2, 0, 1, 2, 0, 1, 2), Holder("window", EVAL)))
        assert not findings_of("EVL004", ForwardLog((forward(0),), (0,) * 20))

    def test_a_second_backward_that_fails_names_what_carries_the_graph(self):
        log = ForwardLog((forward(0),), through=Holder("state", EVAL), through_source=TRAIN, through_forwards=1)
        (finding,) = findings_of("EVL004", log, ProgramRun("crashed", crash=AGAIN))
        assert (finding.level, finding.location.line) == ("error", 20)

    def test_a_graph_used_by_two_optimizers_is_silent(self):
        assert not findings_of("EVL004", ForwardLog((forward(0, used=(0, 1)),)))


class TestCountedTwice:
    def pair(self, step, same=False):
        return TwiceRun(step, TRAIN, EVAL, same)

    def test_a_sum_that_contains_an_earlier_loss_fires_on_the_first_backward(self):
        (finding,) = findings_of("GRD007", ForwardLog(twice=(self.pair(0), self.pair(1))))
        assert finding.location.line == 7

    def test_the_same_loss_within_one_step_explains_the_crash(self):
        log = ForwardLog(twice=(self.pair(0, same=True),))
        assert findings_of("GRD007", log, ProgramRun("crashed", crash=AGAIN))
        assert not findings_of("EVL004", log, ProgramRun("crashed", crash=AGAIN))

    def test_losses_that_share_a_graph_and_one_measurement_are_silent(self):
        assert not findings_of("GRD007", ForwardLog((forward(0),)))
        assert not findings_of("GRD007", ForwardLog(twice=(self.pair(0),)))


def test_several_forwards_of_one_batch_sample_dropout_on_purpose():
    place = EvaluationPlace(0, "Net", EVAL, 40, 40, 0, ("drop (Dropout p=0.1)",))
    assert findings_of("EVL001", EvaluationLog((place,), training_source=TRAIN))
    sampled = replace(place, again=38)
    assert not findings_of("EVL001", EvaluationLog((sampled,), training_source=TRAIN))


def test_a_line_that_trains_and_evaluates_in_training_mode_by_turns():
    entry = {
        "event": "entry", "root": 0, "root_kind": "Net", "path": "", "line": ["train.py", 7, "run"], "forwards": 96,
        "train_mode": 96, "grad_enabled": 80, "trained": 9, "untrained": 0, "mode_sensitive": ["bn (BatchNorm2d)"],
        "after_training": True, "first_step": 0, "within_window": 0,
    }  # fmt: skip
    (place,) = evaluation_log(Recording((entry,))).places
    assert (place.forwards, place.train_mode, place.grad_enabled) == (16, 16, 0)
    assert findings_of("EVL001", EvaluationLog((place,), training_source=TRAIN))
    (place,) = evaluation_log(Recording(({**entry, "train_mode": 80},))).places
    assert not findings_of("EVL001", EvaluationLog((place,), training_source=TRAIN))
