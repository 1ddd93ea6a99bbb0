"""The trial of a patch: the edited program itself is run against the one as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from doctor.evidence.recording import Recording
from doctor.findings import Effect, Finding, Patch, Severity, Verdict
from doctor.patches import making
from doctor.trials import statistics
from doctor.trials.arms import Arm, Arms, Treatments, aligned
from doctor.trials.treatments import Experiment, ShuffleData
from doctor.trials.treatments.source import RunEdited

GONE = "whether the finding is still made on the patched program"
_MOST_TRIED = 3  # patches of one finding
_LEAST_FALL = 0.02  # of a loss, where no control has one to compare with
_VERDICTS = (Verdict.CONFIRMED, Verdict.INCONCLUSIVE, Verdict.UNTESTED, Verdict.REFUTED)


class Patches:
    """Patches of a ranked list of findings. Each is made on top of those before it that proved good."""

    def __init__(
        self,
        arms: Arms | None,
        seeds: int,
        recheck: Callable[[Recording], list[Finding]],
        since: float | None,
        in_time: Callable[[], bool] = lambda: True,
    ) -> None:
        self._arms = arms
        self._seeds = range(seeds)
        self._recheck = recheck
        self._since = since
        self._in_time = in_time
        self._current: dict[Path, bytes] = {}
        self._texts: dict[str, str] = {}
        self._rules: tuple[str, ...] = ()

    def prescribe(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """The findings with a patch where one can be made."""
        if not making.available():
            return tuple(findings)
        return tuple(self._prescribed(finding) if making.wanted(finding) else finding for finding in findings)

    def _prescribed(self, finding: Finding) -> Finding:
        tried: list[Patch] = []
        for patch in making.patches_for(finding, self._current, self._since):
            patch = patch.model_copy(update={"on_top_of": self._rules})
            tried.append(self._tried(finding, patch))
            if tried[-1].verdict in (Verdict.CONFIRMED, Verdict.UNTESTED) or len(tried) == _MOST_TRIED:
                break
        if not tried:
            return finding
        best = min(tried, key=lambda patch: _VERDICTS.index(patch.verdict))
        if best.verdict in (Verdict.CONFIRMED, Verdict.UNTESTED):
            self._current.update({Path(file.path): file.content for file in best.files})
            self._texts.update({file.path: file.text for file in best.files})
            self._rules = (*self._rules, finding.rule)
        return finding.revised(patch=best)

    def _tried(self, finding: Finding, patch: Patch) -> Patch:
        if self._arms is None or not self._in_time():
            return patch
        base = _edited(self._texts)
        treated = _edited({**self._texts, **{file.path: file.text for file in patch.files}})
        wanted = [(treatments, seed) for seed in self._seeds for treatments in (base, treated)]
        arms = self._arms.get(wanted, observed=[treated])
        pairs = list(zip(arms[::2], arms[1::2], strict=True))
        control, first = pairs[0]
        failure = _failure(control, first)
        if failure:
            effect = Effect(statistic="whether the patched program runs", note=failure)
            return patch.model_copy(update={"verdict": Verdict.REFUTED, "effect": effect})
        gone = not any(self._is_same(finding, other) for other in self._recheck(first.recording or Recording(())))
        worst = isinstance(finding.treatment, ShuffleData)
        comparisons = [statistics.compare(*aligned(*pair), worst) for pair in pairs]
        known = [comparison for comparison in comparisons if comparison is not None]
        outcome, statistic = _judged(finding, gone, known, worst)
        without, with_patch = aligned(control, first)
        if not control.curve:  # a control without any loss: the patched program must show that it learns
            with_patch = first.curve
            falls = all(_falls(pair[1].curve) for pair in pairs)
            outcome, statistic = (Verdict.CONFIRMED if gone and falls else Verdict.INCONCLUSIVE), GONE
        effect = Effect(
            statistic=statistic,
            control=fmean([c.control for c in known]) if known else None,
            treated=fmean([c.treated for c in known]) if known else None,
            size=fmean([c.gain for c in known]) if known else None,
            seeds=len(pairs),
            agreeing=sum(c.better for c in known),
            steps=len(with_patch),
            control_curve=without,
            treated_curve=with_patch,
            note=f"{finding.rule} is {'no longer' if gone else 'still'} found in the patched program",
        )
        return patch.model_copy(update={"verdict": outcome, "effect": effect})

    def _is_same(self, finding: Finding, other: Finding) -> bool:
        return other.rule == finding.rule and other.level is not Severity.INFO


def _edited(texts: dict[str, str]) -> Treatments:
    return (RunEdited(files=tuple(sorted(texts.items()))),) if texts else ()


def _falls(curve: tuple[float, ...]) -> bool:
    """Whether a loss is clearly lower in its last third than at its start."""
    tail = curve[-max(3, len(curve) // 3) :]
    return (
        len(curve) >= 6
        and all(map(math.isfinite, tail))
        and fmean(tail) < fmean(curve[:2]) - _LEAST_FALL * abs(fmean(curve[:2]))
    )


def _failure(control: Arm, patched: Arm) -> str | None:
    """What ended the patched program and did not end the control (sooner)."""
    end = patched.recording.end if patched.recording else {}
    if end.get("outcome") not in ("crashed", "killed", "timeout") or len(patched.curve) > len(control.curve):
        return None
    ended = control.recording.end.get("outcome") if control.recording else None
    if ended == end["outcome"] and len(control.curve) == len(patched.curve) > 0:
        return None
    crash = end.get("crash") or {}
    what = f"{crash['type']}: {crash.get('message', '')}" if crash.get("type") else str(end["outcome"])
    return f"the patched program does not run: {what.splitlines()[0][:200]}"


def _judged(finding: Finding, gone: bool, comparisons: list[statistics.Comparison], worst: bool) -> tuple[Verdict, str]:
    """A better loss proves a patch, unless the fact that the finding states is still there. Where the loss cannot tell
    (experiments, facts), it is proven by the finding's absence, unless the loss is no better at some seed.
    """
    trained = not isinstance(finding.treatment, Experiment)
    outcome = statistics.verdict(comparisons) if trained else Verdict.INCONCLUSIVE
    fact = finding.demonstrated is not None or not trained
    if outcome is Verdict.CONFIRMED and (gone or not fact):
        return outcome, statistics.WORST_QUARTER if worst else statistics.STATISTIC
    if not gone:
        return (Verdict.REFUTED if fact else outcome), GONE if fact else statistics.STATISTIC
    if fact and not (trained and any(comparison.no_better for comparison in comparisons)):
        return Verdict.CONFIRMED, GONE
    return outcome if outcome is not Verdict.CONFIRMED else Verdict.INCONCLUSIVE, statistics.STATISTIC
