"""Whether samples and their labels belong together: all of them, or one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from doctor.evidence.sample_alignment import SampleAlignment, SplitAlignment
from doctor.evidence.sample_reference import SampleReference
from doctor.evidence.samples import Ints, Samples
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from ._samples import compared, listed, seen, units

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


class AlignmentLimits(Limits):
    """Thresholds of DAT012 on samples."""

    errors: float = 3.0  # standard deviations above chance, below which pairs are unrelated
    related: float = 6.0  # the same, from which pairs are surely related
    margin: float = 0.2  # of what is left above chance, that another split or another place reaches
    unspoken: float = 0.15  # correlation of duration and length of transcript, below which they are unrelated
    outliers: float = 0.03  # of the transcripts do not fit their recording


@look("DAT012")
def misaligned_samples(samples: Samples, alignment: SampleAlignment, limits: AlignmentLimits) -> Iterator[Finding]:
    """Targets that go with other inputs than their own."""
    for one in alignment.splits:
        measured = {
            "straight": Measure(value=one.straight),
            "chance": Measure(value=one.chance),
            "at_lag": Measure(value=one.at_lag),
        }
        moved = (
            one.lag
            and one.errors_at_lag > limits.related
            and _above(one, one.at_lag) > _above(one, one.straight) + limits.margin
        )
        others = [other for other in alignment.splits if other is not one]
        elsewhere = [o for o in others if o.errors > limits.related and _above(o, o.straight) > limits.margin]
        unrelated = one.errors < limits.errors
        spoken = one.measure.startswith("correlation")
        if spoken:
            unrelated = one.straight < limits.unspoken and one.samples * limits.unspoken**2 > 1
        if moved and (unrelated or one.errors < 0.5 * one.errors_at_lag):
            yield Finding(
                severity=Severity.ERROR,
                message=f"targets of {one.split} are moved by {abs(one.lag)} place{'s' * (abs(one.lag) != 1)}: the "
                f"{one.measure} is {one.straight:.2f} as they stand and {one.at_lag:.2f} once moved back",
                measured=measured,
                remedy="join inputs and targets by a key, not by their place in two lists",
                **compared(one.measure, one.straight, one.at_lag, "the same samples with targets moved back"),
            )
        elif unrelated and (elsewhere or spoken):
            told = f", {elsewhere[0].straight:.2f} in {elsewhere[0].split}" if elsewhere else ""
            yield Finding(
                severity=Severity.ERROR if elsewhere or one.samples >= 100 else Severity.WARNING,
                message=f"inputs and targets of {one.split} have nothing to do with each other: the {one.measure} is "
                f"{one.straight:.2f} (chance {one.chance:.2f}{told})",
                measured=measured,
                remedy="join inputs and targets by a key, and shuffle both by one permutation",
                **seen(f"over {one.samples:,} {samples.unit}s"),
            )
        elif one.segment is not None:
            yield _segment(samples, one, measured)
    far = alignment.outliers
    if len(far) >= 5:
        share = len(far) / samples.count
        yield Finding(
            severity=Severity.WARNING if share >= limits.outliers else Severity.INFO,
            message=f"{units(samples, len(far))} have a transcript that is far too long or too short for them",
            measured={"share": Measure(value=share, threshold=limits.outliers)},
            rows=listed(samples, far),
            remedy="listen to these: the transcript is another's, or the recording is cut",
        )


def _above(one: SplitAlignment, value: float) -> float:
    """What is reached above chance, of what can be (common words: of what pairs have)."""
    if one.measure.startswith("common"):
        return (value - one.chance) / max(abs(one.straight), abs(one.at_lag), 1e-6)
    return (value - one.chance) / max(1 - one.chance, 1e-6)


def _segment(samples: Samples, one: SplitAlignment, measured: dict[str, Measure]) -> Finding:
    assert one.segment is not None
    first, last = one.segment
    rows: Ints = np.arange(first, last + 1)
    rows = rows[samples.split[rows] == samples.split[first]]
    return Finding(
        severity=Severity.ERROR,
        message=f"targets of {len(rows):,} {samples.unit}s in a row of {one.split}, from {samples.names[first]} "
        f"{samples.row[first]} to {samples.row[last]}, do not belong to them: {one.segment_misfit:.0%} do not fit, of the "
        f"others {one.other_misfit:.0%}",
        measured=measured | {"misfit": Measure(value=one.segment_misfit, threshold=one.other_misfit)},
        rows=listed(samples, rows),
        remedy="join inputs and targets by a key: from that place on they were joined by position",
        **seen("a run of misfits that chance does not make"),
    )


class NoiseLimits(Limits):
    """Thresholds of DAT013 on samples."""

    accuracy: float = 0.75  # of the reference model: a weaker one cannot judge labels
    margin: float = 0.5  # between the two likeliest classes, from which the model is sure
    contradicted: float = 0.02  # of the labels of which it is sure
    gap: float = 0.2  # by which another class is likelier than the label, for the label to be listed
    steady: float = 0.45  # contradictions in the surer half of those labels over the other half; overlap leaves 0.2
    least: int = 5
    recognised: float = 0.15  # of a class, below which its labels cannot be judged
    confusable: float = 0.2  # of the labels of two classes exchanged: these classes look alike


@look("DAT013")
def noisy_samples(samples: Samples, reference: SampleReference, limits: NoiseLimits) -> Iterator[Finding]:
    """Labels that a reference model contradicts where it is sure.

    Where classes overlap, a model errs near their border only. Labels changed by mistake lie anywhere, also where the
    model is sure: from `least` and a share `contradicted` of those on, all labels that another class exceeds by `gap` are
    listed.
    """
    told = reference.training
    if told.balanced < limits.accuracy or told.accuracy < limits.accuracy:
        return
    surest = np.sort(told.probability, axis=1)
    sure = surest[:, -1] - surest[:, -2] >= limits.margin
    wrong = sure & ~told.right & ~_confusable(told.probability.argmax(1), told.label, reference.classes, limits)
    # A class of which next to nothing is recognised is a hard one, or no class at all.
    recalls = np.array(
        [told.right[told.label == c].mean() if (told.label == c).any() else 0.0 for c in range(reference.classes)]
    )
    wrong &= recalls[told.label] > limits.recognised
    judged = (
        ~np.isin(told.rows, np.concatenate(samples.contradicted)) if samples.contradicted else np.ones(len(wrong), bool)
    )
    wrong &= judged  # equal inputs with different labels have a rule of their own
    rate = float(wrong.sum() / max(sure.sum(), 1))
    if wrong.sum() < limits.least or rate < limits.contradicted or sure.mean() < 0.2:
        return
    if _steadiness(surest[:, -1] - surest[:, -2], sure, wrong) < limits.steady:
        return
    rows = told.rows[judged & _contradicted(told.probability, told.label, limits.gap)]
    remaining = np.isin(told.rows, rows, invert=True)
    yield Finding(
        severity=Severity.ERROR,
        message=f"about {len(rows):,} of {len(told.rows):,} labels look wrong: a reference model contradicts {rate:.1%} of "
        f"those of which it is sure",
        measured={
            "contradicted": Measure(value=rate, threshold=limits.contradicted),
            "labels": Measure(value=len(rows)),
            "share": Measure(value=len(rows) / len(told.rows)),
        },
        rows=listed(samples, rows, [_said(samples, told.label, told.probability, told.rows, row) for row in rows[:20]]),
        remedy="look at these samples again",
        **compared("out-of-fold accuracy of a reference model", told.accuracy, float(told.right[remaining].mean()),
                   "over all labels, and without those that look wrong"),
    )  # fmt: skip


def _steadiness(margin: np.ndarray, sure: np.ndarray, wrong: np.ndarray) -> float:
    """Contradicted labels in the half of which the model is surer, over those in the other half: where classes overlap
    they fall off with certainty, labels changed by mistake do not.
    """
    order = np.flatnonzero(sure)[np.argsort(-margin[sure], kind="stable")]
    surer, other = (float(part.sum()) for part in np.array_split(wrong[order], 2))
    return surer / max(other, 1.0)


def _confusable(predicted: np.ndarray, label: Ints, classes: int, limits: NoiseLimits) -> np.ndarray:
    """Errors between two classes, of more, that are often taken for each other."""
    if classes < 3:
        return np.zeros(len(label), bool)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (label, predicted), 1)
    sizes = counts.sum(1)
    often = (counts + counts.T) / np.maximum(sizes[:, None] + sizes[None, :], 1) > limits.confusable
    found: np.ndarray = often[label, predicted]
    return found


def _contradicted(probability: np.ndarray, label: Ints, gap: float) -> np.ndarray:
    """Another class is likelier than the label by `gap`."""
    found: np.ndarray = probability.max(1) - probability[np.arange(len(label)), label] >= gap
    return found


def _said(samples: Samples, label: Ints, probability: np.ndarray, rows: Ints, row: int) -> str:
    place = int(np.searchsorted(rows, row))
    other = int(probability[place].argmax())
    return f"{samples.labels[int(label[place])]}, rather {samples.labels[other]} ({probability[place, other]:.0%})"
