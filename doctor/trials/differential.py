"""The differential diagnosis: whether the fault is on the side of the data, of the model, or of the optimization.

Three questions are put to the program itself, one to a reference model on its samples:
- does it learn more from its targets than from targets dealt out at random?
- can it overfit one batch?
- can it do so with Adam at 3e-3 over every parameter, in place of its own optimization?
- does a small reference model learn from the same samples?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from doctor.evidence.reference_run import ReferenceRun
from doctor.findings import Frozen
from doctor.trials.arms import Arm, Arms, Treatments, aligned
from doctor.trials.treatments.differential import DealTargets, ReferenceOptimizer, RepeatBatch

_FALLEN = 0.3  # share of its first value that a loss on one batch must lose: no input-independent model does that
_RATE = 3e-3
_LEAD = 0.02  # share of the loss by which true targets must lead random ones more at the end than at the start


class Answer(Frozen):
    """One question and what came out; `holds` is None where it could not be asked."""

    question: str
    holds: bool | None
    measured: str = ""


class Differential(Frozen):
    """Which side the fault is on: `data`, `model`, `optimizer`, `none` or `unknown`, and why in one line."""

    side: str
    reason: str
    answers: tuple[Answer, ...] = ()


def differentiate(arms: Arms, reference: ReferenceRun | None) -> Differential:
    """Ask all questions; the arms run side by side."""
    control, dealt, one, helped = arms.get([(treatments, 0) for treatments in _QUESTIONS])
    answers = {
        "learns": _learns(control, dealt),
        "overfits": _overfits(one, "the program overfits one batch"),
        "helped": _overfits(helped, f"it overfits one batch with Adam at {_RATE:g}"),
        "reference": _reference(reference),
    }
    side, reason = _side(*(answers[name].holds for name in ("learns", "overfits", "helped", "reference")))
    return Differential(side=side, reason=reason, answers=tuple(answers.values()))


_QUESTIONS: tuple[Treatments, ...] = (
    (),
    (DealTargets(),),
    (RepeatBatch(),),
    (RepeatBatch(), ReferenceOptimizer(learning_rate=_RATE)),
)


def _side(learns: bool | None, overfits: bool | None, helped: bool | None, reference: bool | None) -> tuple[str, str]:
    if learns:
        return "none", "the program learns from its data; a fault slows or spoils that, but does not prevent it"
    if reference is False:
        if overfits or helped:
            return "data", "the model can fit one batch, but not even a reference model learns from these samples"
        return "unknown", "neither the model nor a reference model learns from these samples"
    if overfits and reference:
        return "optimizer", "a reference model learns from these samples, and the program can fit one batch of them"
    if overfits:
        return "unknown", "the program overfits one batch and learns nothing from all of them: data or optimization"
    if helped:
        return "optimizer", "the model fits one batch with a reference optimizer, and not with its own"
    if overfits is False and helped is False:
        seen = ", from which a reference model learns" if reference else ""
        return "model", f"the model cannot fit one single batch{seen}, whatever the optimizer"
    return "unknown", "the questions that tell data from model could not be put to this program"


def _learns(control: Arm, dealt: Arm) -> Answer:
    question = "it learns more from its targets than from targets dealt out at random"
    if not _reached(dealt, "deal-targets", "losses"):
        return Answer(question=question, holds=None)
    random, true = aligned(dealt, control)
    third = len(true) // 3
    if third < 3 or len(random) != len(true) or not all(map(math.isfinite, (*random, *true))):
        return Answer(question=question, holds=None)
    # The same batches in the same order: what they differ by at random cancels, step by step.
    ahead = [without - with_ for without, with_ in zip(random, true, strict=True)]
    gained = fmean(ahead[-third:]) - fmean(ahead[:third])
    error = math.hypot(stdev(ahead[-third:]), stdev(ahead[:third])) / math.sqrt(third)
    measured = (
        f"its lead over random targets grows by {gained:.3g} (error {error:.2g}) from loss {fmean(true[:third]):.3g}"
    )
    return Answer(question=question, holds=gained > max(3 * error, _LEAD * abs(fmean(true[:third]))), measured=measured)


def _overfits(arm: Arm, question: str) -> Answer:
    curve: Sequence[float] = arm.curve
    if len(curve) < 8 or not _reached(arm, "repeat-batch", "held"):
        return Answer(question=question, holds=None)
    first, last = fmean(curve[:2]), fmean(curve[-3:])
    measured = f"loss {first:.4g} to {last:.4g}"
    return Answer(question=question, holds=math.isfinite(last) and last < (1 - _FALLEN) * first, measured=measured)


def _reached(arm: Arm, kind: str, count: str) -> bool:
    return any(note.get("kind") == kind and note.get(count) for note in arm.notes)


def _reference(run: ReferenceRun | None) -> Answer:
    question = "a reference model learns from the same samples"
    if run is None:
        return Answer(question=question, holds=None)
    measured = f"{run.kind}: held-out loss {run.loss:.4g}, with shuffled targets {run.shuffled:.4g}"
    holds = True if run.learns else False if run.finds_nothing else None
    return Answer(question=question, holds=holds, measured=measured)
