"""Schedulers and rates."""

from doctor.evidence.base import Source
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.evidence.recording import Recording
from doctor.evidence.schedule_log import LoaderEpochs, ScheduleLog, SchedulerRecord, schedule_log
from doctor.testing import findings_of

MADE, CALLED = Source("train.py", 7, "main"), Source("train.py", 20, "main")
GOES_ON, ENDS = ProgramRun("budget", steps=80), ProgramRun("finished", steps=80)


def by_batch(kind, rates, **changes):
    fields = {"initial": 0.1, "first": 0.1, "optimizer": 0, "created": MADE, "lines": (CALLED,), **changes}
    positions = tuple(range(1, len(rates) + 1))
    return SchedulerRecord(kind, steps=len(rates), positions=positions, rates=tuple(rates), **fields)


def log(*schedulers, rates=(0.1,) * 80, begun=2, batches=40):
    return ScheduleLog(schedulers, {0: tuple(rates)}, (LoaderEpochs(0, begun, batches),))


def test_an_epoch_schedule_stepped_by_batch_fires_on_the_call():
    rates = [0.1 * 0.5 ** (i // 5) for i in range(80)]
    (finding,) = findings_of("OPT008", GOES_ON, log(by_batch("StepLR", rates), rates=rates))
    assert (finding.name, finding.location.line) == ("scheduler-misuse", 20)
    assert finding.demonstrated
    assert finding.treatment.kind == "hold-learning-rate"


def test_a_schedule_by_batch_that_ends_with_the_run_is_silent():
    rates = [0.1 * (1 - (i + 1) / 80) for i in range(80)]
    cosine = by_batch("LambdaLR", rates)
    assert not findings_of("OPT008", ENDS, log(cosine, rates=rates))


def test_one_step_an_epoch_is_silent():
    record = SchedulerRecord("StepLR", 0, {}, MADE, (CALLED,), 0.1, 0.1, 2, positions=(40, 80), rates=(0.1, 0.01))
    assert not findings_of("OPT008", GOES_ON, log(record))


def test_a_rate_of_zero_while_training_goes_on_is_an_error():
    rates = [0.1] * 30 + [0.0] * 50
    (finding,) = findings_of("OPT008", GOES_ON, log(rates=rates))
    assert finding.severity == "error"


def test_a_warm_up_from_zero_and_a_last_step_at_zero_are_silent():
    assert not findings_of("OPT008", GOES_ON, log(rates=[0.001 * i for i in range(79)] + [0.0]))


def test_a_scheduler_that_is_never_stepped_fires_once_an_epoch_is_over():
    record = SchedulerRecord("StepLR", 0, created=MADE, initial=0.1, first=0.1)
    assert findings_of("OPT008", GOES_ON, log(record))[0].location.line == 7
    assert not findings_of("OPT008", GOES_ON, log(record, begun=1))
    assert not findings_of("OPT008", GOES_ON, log(SchedulerRecord("LinearLR", 0, created=MADE, inner=40)))


def test_a_lambda_that_gives_the_rate_fires_and_a_factor_does_not():
    rate = [0.01 * 0.01 * (1 - i / 800) for i in range(80)]
    absolute = by_batch("LambdaLR", rate, initial=0.01, first=1e-4)
    assert findings_of("OPT008", GOES_ON, log(absolute, rates=rate))[0].location.line == 7
    warm = [0.01 * i / 10_000 for i in range(80)]
    assert not findings_of("OPT008", GOES_ON, log(by_batch("LambdaLR", warm, initial=0.01, first=0.0), rates=warm))


def test_stepping_in_two_places_fires():
    record = by_batch("StepLR", [0.1] * 40, repeats=40, lines=(CALLED, Source("train.py", 25)))
    assert findings_of("OPT008", GOES_ON, log(record))[0].location.line == 25


def test_a_one_cycle_that_is_too_short_explains_its_crash():
    crash = Crash("ValueError", "Tried to step 101 times. The specified number of total steps is 100", CALLED)
    run = ProgramRun("crashed", steps=100, crash=crash)
    record = SchedulerRecord("OneCycleLR", 0, {"total_steps": 100}, MADE)
    assert findings_of("OPT008", run, log(record))[0].location.line == 7
    assert not findings_of("ARC002", run)


def test_a_warm_up_longer_than_the_training_fires_where_it_is_set_and_a_usual_one_does_not():
    rates = [5e-5 * (i + 1) / 5000 for i in range(80)]
    settings = {"num_warmup_steps": 5000, "num_training_steps": 88}
    warm = by_batch("LambdaLR", rates, initial=5e-5, first=0.0, settings=settings)
    made = OptimizerLog((OptimizerRecord(0, "AdamW", ("w",), setting_sources={"warmup_steps": Source("train.py", 3)}),))
    (finding,) = findings_of("OPT008", GOES_ON, log(warm, rates=rates), made)
    assert (finding.location.line, finding.faults) == (3, ("scheduler-misuse", "lr-too-low"))
    usual = by_batch("LambdaLR", rates, initial=5e-5, first=0.0, settings={**settings, "num_training_steps": 90000})
    assert not findings_of("OPT008", GOES_ON, log(usual, rates=rates), made)


def test_a_rate_in_the_place_of_a_factor_is_told_before_the_first_step_of_the_schedule():
    record = SchedulerRecord("LambdaLR", 0, {}, MADE, (), 0.01, 0.0001)
    (finding,) = findings_of("OPT008", GOES_ON, log(record, rates=(0.0001,) * 80, begun=1))
    assert "gives the rate itself" in finding.message
    warming = SchedulerRecord("LambdaLR", 0, {}, MADE, (), 0.01, 0.002)
    assert not findings_of("OPT008", GOES_ON, log(warming, rates=(0.002,) * 80, begun=1))
    whole = SchedulerRecord("LambdaLR", 0, {}, MADE, (), 1.0, 1.0)  # Noam: the rate itself, times 1
    assert not findings_of("OPT008", GOES_ON, log(whole, rates=(1.0,) * 80, begun=1))


def warming(rising, rates=(0.0002,), batches=22):
    record = SchedulerRecord(
        "LambdaLR", 0, {}, MADE, (CALLED,), 0.003, 0.0001, 1, rising=rising, positions=(22,), rates=rates
    )
    return ScheduleLog((record,), {0: (0.0001,) * 30}, (LoaderEpochs(0, 2, batches),))


def test_a_warm_up_that_counts_batches_and_is_called_once_an_epoch_fires():
    (finding,) = findings_of("OPT008", GOES_ON, warming(45))
    assert finding.location.line == CALLED.line


def test_a_warm_up_of_a_few_epochs_and_one_that_is_over_soon_are_silent():
    assert not findings_of("OPT008", GOES_ON, warming(5))
    assert not findings_of("OPT008", GOES_ON, warming(45, rates=(0.0015,)))
    assert not findings_of("OPT008", GOES_ON, warming(45, batches=1))


def test_a_rate_of_zero_from_the_start_that_nothing_schedules_is_left_to_the_optimizer():
    assert not findings_of("OPT008", GOES_ON, log(rates=[0.0] * 80))


def test_a_scheduler_that_a_library_steps_is_told_where_it_is_made():
    event = {
        "event": "scheduler", "kind": "StepLR", "optimizer": 0, "settings": {}, "created": ["train.py", 7, "main"],
        "lines": [["train.py", 40, "main"]], "initial": 0.1, "first": 0.1, "steps": 3, "inner": False, "repeats": 0,
        "before_first": False, "positions": [1, 2, 3], "rates": [0.1, 0.1, 0.1],
    }  # fmt: skip
    backward = {"event": "backward", "step": 0, "loss": 1.0, "line": ["train.py", 40, "main"]}
    assert schedule_log(Recording((event, backward))).schedulers[0].lines == ()
    elsewhere = {**backward, "line": ["train.py", 39, "main"]}
    assert schedule_log(Recording((event, elsewhere))).schedulers[0].lines == (Source("train.py", 40, "main"),)


def test_a_scheduler_whose_turn_comes_after_another_ones_is_silent():
    waiting = SchedulerRecord("SWALR", 0, {}, MADE, (), 0.1, 0.1, 0)
    assert findings_of("OPT008", GOES_ON, log(waiting))
    now = SchedulerRecord("StepLR", 0, {}, MADE, (CALLED,), 0.1, 0.1, 2, positions=(40, 80), rates=(0.1, 0.05))
    assert not findings_of("OPT008", GOES_ON, log(waiting, now))
