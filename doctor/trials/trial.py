"""Trials: the program with and without a treatment, and what becomes of the findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from doctor.config import Settings
from doctor.errors import DoctorError
from doctor.evidence.recording import Recording
from doctor.evidence.reference_run import ReferenceRun
from doctor.findings import Effect, Finding, Rate, Related, Severity, Verdict
from doctor.progress import Progress
from doctor.ranking import off_side, prior
from doctor.subjects.program import Program, Run
from doctor.trials import rates, statistics
from doctor.trials.arms import Arms, Treatments, aligned
from doctor.trials.differential import Differential, differentiate
from doctor.trials.patched import Patches
from doctor.trials.treatments import (
    Experiment,
    ScaleLearningRate,
    SearchLearningRate,
    ShuffleData,
    StepAfterBackward,
    Treatment,
)

_EXPERIMENT_SECONDS = 15.0
_MOST_CAUSES = 4  # causes that are cured one after the other, to look behind each
_MOST_TOGETHER = 3  # unproven mistakes that are cured together, to see what each adds


@dataclass(frozen=True)
class _Outcome:
    """A judged finding, and what was given to the arm that confirmed it."""

    finding: Finding
    treatments: Treatments = ()


class Trials:
    """The trials of one diagnosis: the most probable cause is treated first, then the treated program is looked at
    again. What is gone from it was a symptom; what is new was hidden, and is tried on top of the cures so far.
    All trials share their arms, and none begins when their time is spent.
    """

    def __init__(
        self,
        program: Program,
        recording: Recording,
        settings: Settings,
        progress: Progress,
        recheck: Callable[[Recording], list[Finding]],
    ) -> None:
        self._program = program
        self._settings = settings
        self._progress = progress
        self._recheck = recheck
        made = max(len(recording.of("step")), len(recording.of("backward")), 8)
        self._arms = Arms(program, recording, min(settings.confirm_steps or made, settings.steps), settings.jobs)
        self._deadline = time.monotonic() + settings.trial_budget_s
        self._cures: Treatments = ()
        self.count = 0

    def differentiate(self, reference: ReferenceRun | None) -> Differential:
        """On which side the fault is."""
        self._progress.start("differential diagnosis: data, model or optimizer", None)
        return differentiate(self._arms, reference)

    def judge(self, findings: Sequence[Finding], side: str = "unknown") -> list[Finding]:
        """The findings with verdicts: causes confirmed or refuted, symptoms put under their cause.

        `side` is what the differential diagnosis says: what stands on it is tried first.
        """

        def order(index: int) -> tuple[int, ...]:
            return (*prior(judged[index]), off_side(judged[index], side))

        judged = list(findings)
        waiting = sorted(range(len(judged)), key=order)
        while waiting:
            index = waiting.pop(0)
            if judged[index].caused_by is not None:
                continue
            outcome = self._judge(judged[index])
            judged[index] = outcome.finding
            if not outcome.treatments or len(self._cures) >= _MOST_CAUSES:
                continue
            remaining = self._look_again(outcome.treatments)
            if remaining is None:
                continue
            _put_symptoms_under(judged, index, remaining)
            self._cures = outcome.treatments
            new = [_hidden_behind(f, judged[index]) for f in remaining if _is_new(f, judged)]
            waiting += range(len(judged), len(judged) + len(new))
            judged += new
            waiting.sort(key=order)
        self._try_together(judged)
        self._progress.finish()
        return judged

    def prescribe(self, findings: Sequence[Finding], since: float | None = None) -> tuple[Finding, ...]:
        """The ranked findings with patches, each tried on the program; see `doctor.trials.patched`."""
        self._progress.start("trial of the patched program", None)
        seeds, deadline = self._settings.confirm_seeds, self._deadline
        patches = Patches(self._arms, seeds, self._recheck, since, lambda: time.monotonic() < deadline)
        done = patches.prescribe(findings)
        self._progress.finish()
        return done

    def _try_together(self, judged: list[Finding]) -> None:
        """Mistakes that hide each other's cure: each once more, where the others are cured in both arms."""
        open_ = [index for index, finding in enumerate(judged) if _is_open(finding)][:_MOST_TOGETHER]
        if len(open_) < 2:
            return
        for index in open_:
            others = tuple(judged[other].treatment for other in open_ if other != index)
            treatment = judged[index].treatment
            if treatment is not None and time.monotonic() < self._deadline:
                self._progress.start(f"trial of {judged[index].rule}, the others cured: {treatment.describe()}", None)
                base = (*self._cures, *(other for other in others if other is not None))
                outcome = self._compare(judged[index], treatment, base=base)
                if outcome.finding.verdict is Verdict.CONFIRMED:
                    judged[index] = outcome.finding

    def _judge(self, finding: Finding) -> _Outcome:
        treatment = finding.treatment
        if treatment is None:
            return _Outcome(_demonstrated(finding))
        if time.monotonic() > self._deadline:
            return _Outcome(_late(finding))
        self.count += 1
        self._progress.start(f"trial of {finding.rule}: {treatment.describe()}", None)
        try:
            if isinstance(treatment, Experiment):
                return _Outcome(self._experiment(finding, treatment))
            if isinstance(treatment, SearchLearningRate):
                return self._search(finding, treatment)
            return self._compare(finding, treatment)
        except DoctorError as failure:
            return _Outcome(finding.revised(effect=Effect(statistic="trial", note=str(failure))))

    def _look_again(self, treatments: Treatments) -> list[Finding] | None:
        recording = self._arms.get([(treatments, 0)], observed=[treatments])[0].recording
        return None if recording is None else self._recheck(recording)

    # -- training trials ----------------------------------------------------------------------------------------

    def _compare(
        self,
        finding: Finding,
        treatment: Treatment,
        response: tuple[Rate, ...] = (),
        base: Treatments | None = None,
    ) -> _Outcome:
        base = self._cures if base is None else base
        treated = (*base, treatment)
        seeds = range(self._settings.confirm_seeds)
        worst = isinstance(treatment, ShuffleData)
        # The first seed alone may tell that the cure is none; the other control serves every later trial.
        self._arms.get([(treated, 0), *((base, seed) for seed in seeds)], observed=[treated])
        pairs = []
        for seed in seeds:
            control, arm = self._arms.get([(base, seed), (treated, seed)])
            comparison = statistics.compare(*aligned(control, arm), worst)
            if comparison is not None:
                pairs.append(comparison)
                if comparison.worse:
                    break
        control, arm = self._arms.get([(base, 0), (treated, 0)])
        without, with_cure = aligned(control, arm)
        outcome = statistics.verdict(pairs)
        effect = Effect(
            statistic=statistics.WORST_QUARTER if worst else statistics.STATISTIC,
            control=_mean([pair.control for pair in pairs]),
            treated=_mean([pair.treated for pair in pairs]),
            size=_mean([pair.gain for pair in pairs]),
            seeds=len(pairs),
            agreeing=sum(pair.better for pair in pairs),
            steps=len(with_cure),
            control_curve=without,
            treated_curve=with_cure,
            rates=response,
            on_top_of=tuple(cure.describe() for cure in base),
            suggestion=rates.suggestion(response) if response and outcome is Verdict.CONFIRMED else None,
            note=None if pairs else "too few steps to compare",
        )
        return _Outcome(_with_verdict(finding, outcome, effect), treated if outcome is Verdict.CONFIRMED else ())

    def _search(self, finding: Finding, search: SearchLearningRate) -> _Outcome:
        value = finding.measured.get("learning_rate")
        now = float(value.value) if value is not None and isinstance(value.value, float | int) else None
        response = rates.response(self._arms, self._cures, search, now)
        best = next((rate.factor for rate in response if rate.best and rate.loss is not None), 1.0)
        if best == 1.0:
            effect = Effect(statistic=statistics.STATISTIC, rates=response, note="no other rate trains better")
            return _Outcome(_with_verdict(finding, Verdict.REFUTED, effect))
        scale = ScaleLearningRate(factor=best)
        return self._compare(finding.revised(treatment=scale), scale, response)

    # -- experiments --------------------------------------------------------------------------------------------

    def _experiment(self, finding: Finding, treatment: Experiment) -> Finding:
        run = Run(self._arms.steps, treatments=(*self._cures, treatment), soft_seconds=_EXPERIMENT_SECONDS)
        recording = self._program.run(run)
        for note in recording.end.get("treatments", ()):
            if note.get("kind") == treatment.kind:
                known = {key: value for key, value in note.items() if key in Effect.model_fields}
                return _with_verdict(finding, Verdict(note["outcome"]), Effect(**known))
        nothing = Effect(statistic=treatment.describe(), note="the experiment could not be made")
        return _with_verdict(finding, Verdict.INCONCLUSIVE, nothing)


def _with_verdict(finding: Finding, outcome: Verdict, effect: Effect) -> Finding:
    if outcome is Verdict.CONFIRMED:
        return finding.revised(verdict=outcome, effect=effect)
    if finding.demonstrated:
        # A fact stays a fact; that its cure shows no gain in so few steps is told with it.
        kept: Verdict = Verdict.INCONCLUSIVE if outcome is Verdict.REFUTED else outcome
        if isinstance(finding.treatment, StepAfterBackward):
            kept = Verdict.CONFIRMED
        return finding.revised(verdict=kept, effect=effect)
    return finding.revised(verdict=outcome, effect=effect, severity=Severity.INFO)


def _demonstrated(finding: Finding) -> Finding:
    if finding.demonstrated is None:
        return finding
    return finding.revised(verdict=Verdict.CONFIRMED, effect=Effect(statistic="observation", note=finding.demonstrated))


def _late(finding: Finding) -> Finding:
    note = Effect(statistic="trial", note="the time for trials was spent (trial-budget-s)")
    severity = finding.severity if finding.demonstrated else Severity.INFO
    return finding.revised(effect=note, severity=severity)


def _is_new(finding: Finding, judged: Sequence[Finding]) -> bool:
    known = {other.rule for other in judged}
    return finding.level is not Severity.INFO and finding.rule not in known


def _hidden_behind(finding: Finding, cause: Finding) -> Finding:
    behind = Related(location=cause.location, message=f"seen once {cause.rule} {cause.name} was cured")
    return finding.revised(related=(*finding.related, behind))


def _put_symptoms_under(judged: list[Finding], cause: int, remaining: Sequence[Finding]) -> None:
    """What the treatment made vanish was a symptom of what it treats."""
    still = {finding.rule for finding in remaining}
    for index, finding in enumerate(judged):
        if index == cause or finding.caused_by is not None or finding.rule in still:
            continue
        if finding.verdict is Verdict.CONFIRMED and finding.level is not Severity.INFO:
            continue
        judged[index] = finding.revised(caused_by=cause)


def _is_open(finding: Finding) -> bool:
    """Whether a mistake was seen whose cure alone showed no gain."""
    tried = finding.verdict is Verdict.INCONCLUSIVE and finding.caused_by is None
    curable = finding.treatment is not None and not isinstance(finding.treatment, Experiment | SearchLearningRate)
    return tried and curable and finding.demonstrated is not None


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
