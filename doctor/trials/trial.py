"""Trials: the program with and without a treatment, and what becomes of the findings."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

from doctor.config import Settings
from doctor.errors import DoctorError
from doctor.evidence.recording import Recording
from doctor.findings import Effect, Finding, Severity, Verdict
from doctor.progress import Progress
from doctor.ranking import prior
from doctor.subjects.program import Program, Run
from doctor.trials import statistics
from doctor.trials.statistics import Comparison
from doctor.trials.treatments import (
    Experiment,
    ScaleLearningRate,
    SearchLearningRate,
    ShuffleData,
    StepAfterBackward,
    Treatment,
)

_SEED_STRIDE = 1009
_ARM_SECONDS = 15.0


class Trials:
    """The trials of one diagnosis. They share the control arms, and stop when their time is spent."""

    def __init__(
        self,
        program: Program | None,
        recording: Recording,
        settings: Settings,
        progress: Progress,
        recheck: Callable[[Recording], list[Finding]],
    ) -> None:
        self._program = program
        self._settings = settings
        self._progress = progress
        self._recheck = recheck
        self._steps = settings.confirm_steps or max(len(recording.of("step")), len(recording.of("backward")), 8)
        self._steps = min(self._steps, settings.steps)
        self._controls: dict[int, tuple[float, ...]] = {0: losses(recording)[: self._steps]}
        self._deadline = time.monotonic() + settings.trial_budget_s
        self._treated: Recording | None = None
        self.count = 0

    def judge(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings with verdicts: causes confirmed or refuted, symptoms put under their cause."""
        judged = list(findings)
        for index in sorted(range(len(judged)), key=lambda i: prior(judged[i])):
            finding = judged[index]
            if finding.caused_by is not None:
                continue
            if finding.treatment is None:
                judged[index] = _demonstrated(finding)
                continue
            if time.monotonic() > self._deadline:
                judged[index] = _late(finding)
                continue
            try:
                judged[index] = self._try(finding, finding.treatment)
            except DoctorError as failure:
                judged[index] = finding.revised(effect=Effect(statistic="trial", note=str(failure)))
            if judged[index].verdict is Verdict.CONFIRMED and self._treated is not None:
                _put_symptoms_under(judged, index, self._recheck(self._treated))
        self._progress.finish()
        return judged

    def _try(self, finding: Finding, treatment: Treatment) -> Finding:
        self.count += 1
        self._treated = None
        self._progress.start(f"trial of {finding.rule}: {treatment.describe()}", None)
        if isinstance(treatment, Experiment):
            return self._experiment(finding, treatment)
        if isinstance(treatment, SearchLearningRate):
            return self._search(finding, treatment)
        return self._compare(finding, treatment)

    # -- training trials ----------------------------------------------------------------------------------------

    def _compare(self, finding: Finding, treatment: Treatment, suggestion: str | None = None) -> Finding:
        seeds = range(self._settings.confirm_seeds)
        wanted: list[tuple[int, Treatment | None]] = [(0, treatment)]
        for seed in seeds:
            if seed:
                wanted.append((seed, treatment))
            if seed not in self._controls:
                wanted.append((seed, None))
        curves = self._arms(wanted)
        for (seed, applied), curve in curves.items():
            if applied is None:
                self._controls[seed] = curve
        return self._concluded(finding, treatment, {seed: curves[seed, treatment] for seed in seeds}, suggestion)

    def _concluded(
        self, finding: Finding, treatment: Treatment, treated: dict[int, tuple[float, ...]], suggestion: str | None
    ) -> Finding:
        worst = isinstance(treatment, ShuffleData)
        pairs = [statistics.compare(self._controls[seed], curve, worst) for seed, curve in treated.items()]
        known = [pair for pair in pairs if pair is not None]
        outcome = statistics.verdict(known)
        effect = Effect(
            statistic=statistics.WORST_QUARTER if worst else statistics.STATISTIC,
            control=_mean(pair.control for pair in known),
            treated=_mean(pair.treated for pair in known),
            size=_mean(pair.gain for pair in known),
            seeds=len(known),
            agreeing=sum(pair.better for pair in known),
            steps=len(treated[0]),
            control_curve=self._controls[0],
            treated_curve=treated[0],
            suggestion=suggestion,
            note=None if known else "too few steps to compare",
        )
        return _with_verdict(finding, outcome, effect)

    def _search(self, finding: Finding, treatment: SearchLearningRate) -> Finding:
        rates = [ScaleLearningRate(factor=factor) for factor in treatment.factors]
        curves = self._arms([(0, rate) for rate in rates], keep=False)
        scored: list[tuple[float, ScaleLearningRate, Comparison]] = []
        for rate in rates:
            comparison = statistics.compare(self._controls[0], curves[0, rate])
            if comparison is not None and math.isfinite(comparison.treated):
                scored.append((comparison.treated, rate, comparison))
        if not scored:
            return self._concluded(finding, treatment, {0: ()}, None)
        best_level, best, comparison = min(scored, key=lambda entry: entry[0])
        value = finding.measured.get("learning_rate")
        rate_now = value.value if value is not None and isinstance(value.value, float | int) else None
        start = curves[0, best][0]
        sane = [r.factor for level, r, _ in scored if level <= best_level + 0.25 * max(start - best_level, 0.0)]
        suggestion = f"learning rate x {best.factor:g}"
        if rate_now is not None:
            low, high = min(sane) * rate_now, max(sane) * rate_now
            suggestion = f"lr {rate_now * best.factor:.3g} (sane range {low:.3g} to {high:.3g})"
        if not comparison.better:
            return self._concluded(finding, best, {0: curves[0, best]}, None)
        return self._compare(finding, best, suggestion)

    def _arms(
        self, wanted: Sequence[tuple[int, Treatment | None]], keep: bool = True
    ) -> dict[tuple[int, Treatment | None], tuple[float, ...]]:
        """Run arms, several at once where the program allows it; their loss curves."""
        assert self._program is not None
        program = self._program
        jobs = min(self._settings.jobs, len(wanted)) if program.parallel else 1
        threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None

        def arm(seed: int, treatment: Treatment | None) -> tuple[float, ...]:
            observed = keep and seed == 0 and treatment is not None
            recording = program.run(
                Run(
                    self._steps,
                    treatments=(treatment,) if treatment else (),
                    seed_offset=seed * _SEED_STRIDE,
                    light=not observed,
                    soft_seconds=_ARM_SECONDS,
                    threads=threads,
                )
            )
            if observed:
                self._treated = recording
            return losses(recording)[: self._steps]

        with ThreadPoolExecutor(jobs) as pool:
            curves = list(pool.map(lambda pair: arm(*pair), wanted))
        return dict(zip(wanted, curves, strict=True))

    # -- experiments --------------------------------------------------------------------------------------------

    def _experiment(self, finding: Finding, treatment: Experiment) -> Finding:
        assert self._program is not None
        recording = self._program.run(Run(self._steps, treatments=(treatment,), soft_seconds=_ARM_SECONDS))
        for note in recording.end.get("treatments", ()):
            if note.get("kind") == treatment.kind:
                known = {key: value for key, value in note.items() if key in Effect.model_fields}
                return _with_verdict(finding, Verdict(note["outcome"]), Effect(**known))
        nothing = Effect(statistic=treatment.describe(), note="the experiment could not be made")
        return _with_verdict(finding, Verdict.INCONCLUSIVE, nothing)


def losses(recording: Recording) -> tuple[float, ...]:
    """The loss by optimizer step of the first optimizer; by backward where nothing is stepped. Missing ones are NaN."""
    steps = recording.of("step")
    if steps:
        first = steps[0]["optimizer"]
        known = [event["loss"] for event in steps if event["optimizer"] == first]
        if any(loss is not None for loss in known):
            return tuple(math.nan if loss is None else float(loss) for loss in known)
    return tuple(math.nan if e["loss"] is None else float(e["loss"]) for e in recording.of("backward"))


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


def _put_symptoms_under(judged: list[Finding], cause: int, remaining: Sequence[Finding]) -> None:
    """What the treatment made vanish was a symptom of what it treats."""
    still = {finding.rule for finding in remaining}
    for index, finding in enumerate(judged):
        if index == cause or finding.caused_by is not None or finding.rule in still:
            continue
        if finding.verdict is Verdict.CONFIRMED and finding.level is not Severity.INFO:
            continue
        judged[index] = finding.revised(caused_by=cause)


def _mean(values: object) -> float | None:
    known = [value for value in values if isinstance(value, float)]  # type: ignore[attr-defined]
    return fmean(known) if known else None
