"""Schedulers that do something else than they are meant for."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.program_run import ProgramRun
from doctor.evidence.schedule_log import ScheduleLog, SchedulerRecord
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import HoldLearningRate

_BY_EPOCH = frozenset(
    {"StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "PolynomialLR",
     "LambdaLR", "MultiplicativeLR", "LinearLR", "ConstantLR", "ReduceLROnPlateau"}
)  # fmt: skip


class ScheduleLimits(Limits):
    """Thresholds of OPT008."""

    vanished: float = 1e-5  # share of the largest rate below which the rate is none
    vanished_steps: int = 10  # steps at no rate; the last one or two of a planned schedule are no loss
    vanished_share: float = 0.25
    collapse: float = 0.1  # share of the first rate at which a schedule of a run that goes on has arrived
    least_steps: int = 20
    repeats: int = 2  # calls in a row without a step between, before they are a habit
    repeated_share: float = 0.4  # of its calls
    warmup: int = 20  # calls of a scheduler that rises as long and is stepped once an epoch
    warmup_rate: float = 0.25  # share of the optimizer's own rate that it has reached at most
    skipped_rate: float = 1.5  # factor between the skipped first rate and the next one


@check(
    "OPT008",
    "scheduler-misuse",
    Severity.WARNING,
    faq=("tuning/learning rate/missing", "tuning/learning rate/duplicated"),
)
def scheduler_misuse(
    run: ProgramRun, schedule: ScheduleLog, log: OptimizerLog | None, limits: ScheduleLimits
) -> Iterator[Finding]:
    """The learning rate takes another course than its schedule was written for.

    ## What it measures
    Each scheduler's calls against the optimizer's steps and the epochs, and the highest rate of the groups by step.
    Fires for: a rate of (almost) 0 for `vanished_share` of the steps; a schedule that counts epochs stepped after each
    batch, so that the rate falls below `collapse` of its start while the run goes on; a warm-up of at least `warmup` calls
    that is called once an epoch; a scheduler that is never stepped; one
    stepped twice for each step; a `LambdaLR` whose function gives the rate itself and no factor; `OneCycleLR` with
    another number of steps than the loop makes; a warm-up
    (of transformers' schedules) that is longer than the training that they were told of; a first rate that is skipped because the scheduler steps first.
    ## Why it hurts
    Training stops early without a word, runs at the wrong rate, or never gets out of its warm-up.
    ## Example
    ```python
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    for x, y in loader:
        train_step(x, y)
        scheduler.step()
    ```
    ## Use instead
    ```python
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    for epoch in range(epochs):
        for x, y in loader:
            train_step(x, y)
        scheduler.step()
    ```
    ## When it is right
    Schedules by batch that end with the run (one-cycle, linear, cosine over all steps), a warm-up from 0, a chain of
    two different schedulers, full-batch training whose epoch is one step. What cannot be told from the counts alone is
    put on trial with the rate held.
    ## References
    `torch.optim.lr_scheduler`: "learning rate scheduling should be applied after optimizer's update".
    """
    crash = run.crash
    if crash is not None and "specified number of total steps" in crash.message:
        made = next((record.created for record in schedule.schedulers if record.kind == "OneCycleLR"), crash.source)
        yield _finding(
            f"OneCycleLR ends before the loop does: {crash.message.splitlines()[0]}",
            made,
            {"steps": Measure(value=run.steps)},
            "give it total_steps=epochs * len(loader), or step it once for each of the steps that it was made for",
            Severity.ERROR,
            demonstrated="the program crashes at the step after the schedule's last",
        )
        return
    stuck: set[int | None] = set()
    for record in schedule.schedulers:
        found = list(_judged(run, schedule, record, log, limits))
        yield from found
        if found and not record.steps:
            stuck.add(record.optimizer)
    yield from _vanished(run, schedule, stuck, limits)


def _judged(
    run: ProgramRun,
    schedule: ScheduleLog,
    record: SchedulerRecord,
    log: OptimizerLog | None,
    limits: ScheduleLimits,
) -> Iterator[Finding]:
    steps = len(schedule.rates.get(record.optimizer if record.optimizer is not None else -1, ()))
    if record.steps == 0 and steps >= limits.least_steps and _starts_absolute(record):
        yield _rate_for_factor(record, record.first or 0.0)
        return
    if record.steps == 0:
        yield from _never_stepped(run, schedule, record, steps, limits)
        return
    place = record.lines[0] if record.lines else record.created
    if (
        record.repeats >= limits.repeats
        and record.repeats >= limits.repeated_share * record.steps
        and record.kind != "ReduceLROnPlateau"
    ):
        yield _finding(
            f"{record.kind} is stepped {record.repeats} times more than the optimizer: each of its periods is cut short",
            record.lines[-1] if len(record.lines) > 1 else place,
            {"repeats": Measure(value=record.repeats, threshold=limits.repeats)},
            "call scheduler.step() in one place only",
            demonstrated=f"{record.repeats} calls follow another one with no optimizer step between",
        )
        return
    warmup, total = record.settings.get("num_warmup_steps"), record.settings.get("num_training_steps")
    if isinstance(warmup, int) and isinstance(total, int) and 0 < total <= warmup:
        yield _finding(
            f"the warm-up of {warmup} steps is longer than the whole training of {total}: the rate ends at "
            f"{total / warmup:.2g} of {record.initial or 0.0:.3g}",
            _warmup_line(log, record) or record.created,
            {"warmup_steps": Measure(value=warmup, threshold=total, unit="steps")},
            "warm up over the first twentieth or tenth of the steps",
            Severity.ERROR,
            demonstrated=f"{warmup} warm-up steps of {total}",
        ).revised(faults=("scheduler-misuse", "lr-too-low"))
        return
    if _absolute(record, limits):
        yield _rate_for_factor(record, record.rates[-1])
        return
    by_batch = _by_batch(run, schedule, record, limits)
    if by_batch is not None:
        yield by_batch
        return
    slow = _slow_warmup(schedule, record, limits)
    if slow is not None:
        yield slow
        return
    if record.kind == "OneCycleLR":
        yield from _one_cycle(schedule, record, steps)
    first, second = record.first, record.rates[0] if record.rates else None
    if record.before_first and first and second and not record.every_step:
        factor = max(first / second, second / first)
        if factor > limits.skipped_rate:
            yield _finding(
                f"{record.kind} is stepped before the optimizer: the first rate {first:.3g} is never used",
                place,
                {"factor": Measure(value=factor, threshold=limits.skipped_rate)},
                "call scheduler.step() after the optimizer's steps",
                demonstrated="the first call of scheduler.step() comes before any optimizer.step()",
            )


def _warmup_line(log: OptimizerLog | None, record: SchedulerRecord) -> Source | None:
    """Where the arguments of a Trainer set the warm-up."""
    owners = [o for o in log.optimizers if record.optimizer in (None, o.index)] if log else []
    owner = owners[0] if len(owners) == 1 else None
    known = owner.setting_sources if owner else {}
    return known.get("warmup_steps") or known.get("warmup_ratio")


def _vanished(
    run: ProgramRun, schedule: ScheduleLog, told: set[int | None], limits: ScheduleLimits
) -> Iterator[Finding]:
    for optimizer, rates in schedule.rates.items():
        scheduled = any(record.optimizer in (None, optimizer) for record in schedule.schedulers)
        if optimizer in told or not (scheduled or any(rates)):
            continue  # a rate of 0 from the start that nothing schedules: OPT002
        largest = max(rates, default=0.0)
        initial = max([r.initial or 0.0 for r in schedule.schedulers if r.optimizer == optimizer] or [0.0])
        top = max(largest, initial)
        none = sum(rate <= limits.vanished * top for rate in rates)
        if none < limits.vanished_steps or none < limits.vanished_share * len(rates):
            continue
        own = [record for record in schedule.schedulers if record.optimizer == optimizer and record.steps]
        if any(_by_batch(run, schedule, record, limits) or _absolute(record, limits) for record in own):
            continue  # told with its cause
        made = next((record.created for record in schedule.schedulers if record.optimizer == optimizer), None)
        yield _finding(
            f"{none} of {len(rates)} steps are made at a learning rate of {min(rates):.2g} (largest {top:.3g})",
            made,
            {"steps_at_no_rate": Measure(value=none, threshold=limits.vanished_steps, unit="steps")},
            "let the schedule last as long as the training, and start from a rate above 0",
            Severity.ERROR,
            demonstrated=f"{none} steps at no rate",
            treatment=True,
            optimizer=optimizer,
        )


def _by_batch(
    run: ProgramRun, schedule: ScheduleLog, record: SchedulerRecord, limits: ScheduleLimits
) -> Finding | None:
    """A schedule that counts epochs, stepped after each batch of a run that goes on."""
    rates = record.rates
    if record.kind not in _BY_EPOCH or not record.every_step or len(rates) < limits.least_steps:
        return None
    first = record.first or rates[0]
    if not first or rates[0] < 0.5 * first:
        return None
    lowest = min(rates)
    place = record.lines[0] if record.lines else record.created
    begun, batches = schedule.training_epochs()
    length = record.settings.get("T_max") if record.kind == "CosineAnnealingLR" else None
    turned = isinstance(length, int | float) and 2 <= length < 0.8 * len(rates) and length * 2 <= len(rates) + length
    if turned and batches and length is not None and not float(length) % batches:
        turned = False  # cycles of whole epochs are meant
    ended = run.outcome == "finished"
    if turned:
        what = f"its T_max={length:g} is over after {length:g} batches and the rate rises again"
    elif lowest <= limits.collapse * first and not ended:
        what = f"after {len(rates)} batches the rate has fallen from {first:.3g} to {rates[-1]:.3g}"
    elif ended and batches > 1 and _spent(rates, first) > 0.4:
        what = f"for most of the training the rate is below a hundredth of {first:.3g}"
    else:
        return None
    vanished = lowest < 1e-3 * first and not ended
    return _finding(
        f"{record.kind} is stepped after each batch: {what}",
        place,
        {
            "first_rate": Measure(value=first),
            "lowest_rate": Measure(value=lowest, threshold=limits.collapse * first),
            "batches_an_epoch": Measure(value=batches or None),
        },
        "step the scheduler once an epoch, or make its periods count batches",
        demonstrated="the rate has gone while the training goes on"
        if vanished and (batches > 1 or begun > 1)
        else None,
        treatment=True,
        optimizer=record.optimizer,
    )


def _slow_warmup(schedule: ScheduleLog, record: SchedulerRecord, limits: ScheduleLimits) -> Finding | None:
    """A warm-up that counts batches, stepped once an epoch."""
    begun, batches = schedule.training_epochs()
    once_an_epoch = 0 < record.steps <= begun and batches >= 4 and not record.every_step
    top = record.initial or 0.0
    if not once_an_epoch or record.rising < limits.warmup or max(record.rates) > limits.warmup_rate * top:
        return None
    return _finding(
        f"{record.kind} warms up over {record.rising} calls and is called once an epoch of {batches} batches: "
        f"after {record.steps} the rate is {record.rates[-1]:.2g} of {top:.2g}",
        record.lines[0] if record.lines else record.created,
        {
            "warmup_calls": Measure(value=record.rising, threshold=limits.warmup),
            "batches_an_epoch": Measure(value=batches),
        },
        "call scheduler.step() after each batch, or let the warm-up count epochs",
        treatment=True,
        optimizer=record.optimizer,
    )


def _spent(rates: tuple[float, ...], first: float) -> float:
    return sum(rate < 0.01 * first for rate in rates) / len(rates)


def _rate_for_factor(record: SchedulerRecord, rate: float) -> Finding:
    initial = record.initial or 0.0
    return _finding(
        f"the function of LambdaLR gives the rate itself: it is multiplied by the optimizer's lr {initial:g}, "
        f"and the rate becomes {rate:.3g}",
        record.created,
        {"rate": Measure(value=rate, threshold=initial)},
        "return a factor of the optimizer's lr (1.0 for no change), not the rate",
        treatment=True,
        optimizer=record.optimizer,
    )


def _starts_absolute(record: SchedulerRecord) -> bool:
    """Whether the first factor of a LambdaLR that no batch steps is the optimizer's own rate."""
    initial = record.initial or 0.0
    own = record.kind == "LambdaLR" and not record.inner and 0 < initial < 0.1
    return own and abs((record.first or 0.0) / initial - initial) <= 1e-3 * initial


def _absolute(record: SchedulerRecord, limits: ScheduleLimits) -> bool:
    """Whether the factors of a LambdaLR are rates: never above the optimizer's own, and not rising."""
    initial = record.initial or 0.0
    if record.kind != "LambdaLR" or not 0 < initial < 0.3 or len(record.rates) < 2:
        return False
    factors = [rate / initial for rate in record.rates]
    rising = factors[-1] > 1.001 * factors[len(factors) // 2] and len(factors) > 4
    start = (record.first or 0.0) / initial
    return 0 < max(*factors, start) <= 1.001 * initial and not rising


def _never_stepped(
    run: ProgramRun, schedule: ScheduleLog, record: SchedulerRecord, steps: int, limits: ScheduleLimits
) -> Iterator[Finding]:
    begun, _ = schedule.training_epochs()
    over = run.outcome == "finished" or begun >= 2
    if any(other.steps and other.optimizer == record.optimizer for other in schedule.schedulers):
        return  # one after the other: its turn may come
    if record.inner or not over or steps < limits.least_steps or record.optimizer is None or run.crash is not None:
        return
    rate, initial = record.first or 0.0, record.initial or 0.0
    stuck = initial > 0 and rate < 0.34 * initial
    yield _finding(
        f"{record.kind} is made and never stepped: the rate stays at {rate:.3g}"
        + (f", {initial / rate:.3g} times below the optimizer's {initial:.3g}" if stuck and rate else ""),
        record.created,
        {"scheduler_steps": Measure(value=0, threshold=1), "steps": Measure(value=steps)},
        "call scheduler.step() after each epoch (or batch, if its periods count batches)",
        Severity.ERROR if stuck else Severity.WARNING,
        demonstrated=f"no call of scheduler.step() in {steps} steps",
    )


def _one_cycle(schedule: ScheduleLog, record: SchedulerRecord, steps: int) -> Iterator[Finding]:
    begun, batches = schedule.training_epochs()
    total = record.settings.get("total_steps")
    per_epoch = record.settings.get("steps_per_epoch")
    if not isinstance(total, int | float) or record.every_step or steps < 8:
        return
    rare = record.steps <= max(begun, 1) and batches >= 4
    if rare and ((isinstance(per_epoch, int) and per_epoch > 1) or total >= 8 * batches):
        yield _finding(
            f"OneCycleLR is made for {total:g} steps and is stepped once an epoch of {batches} batches: "
            "it stays in its warm-up",
            record.lines[0] if record.lines else record.created,
            {"total_steps": Measure(value=total), "scheduler_steps": Measure(value=record.steps)},
            "call scheduler.step() after each batch",
            demonstrated=f"{record.steps} of {total:g} steps of the cycle in {steps} batches",
        )


def _finding(
    message: str,
    place: Source | None,
    measured: dict[str, Measure],
    remedy: str,
    severity: Severity = Severity.WARNING,
    demonstrated: str | None = None,
    treatment: bool = False,
    optimizer: int | None = None,
) -> Finding:
    return Finding(
        message=message,
        location=Location(path=place.path, line=place.line) if place else Location(),
        severity=severity,
        measured=measured,
        remedy=remedy,
        demonstrated=demonstrated,
        treatment=HoldLearningRate(optimizer=optimizer) if treatment else None,
    )
