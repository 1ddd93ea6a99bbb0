"""Labels of samples: contradictions, spellings, absent classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from doctor.evidence.sample_reference import SampleReference
from doctor.evidence.samples import Ints, Samples, spelling
from doctor.evidence.tensor_samples import TensorSamples
from doctor.evidence.text_records import TextRecords
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from ._samples import compared, listed, seen, units

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


class ConflictLimits(Limits):
    """Thresholds of DAT005 on samples."""

    groups: int = 2
    share: float = 0.003  # of the samples stand in contradicting groups
    prompts: float = 0.1  # of the prompts have several answers: they are meant to
    short_answer: int = 60  # characters; longer answers may differ in wording only


@look("DAT005")
def contradicting_samples(samples: Samples, texts: TextRecords | None, limits: ConflictLimits) -> Iterator[Finding]:
    """Samples of the same input with different targets."""
    groups = [group for group in samples.contradicted if not samples.repeatable[group].any()]
    rows = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    share = len(rows) / max(samples.count, 1)
    if len(groups) < limits.groups or share < limits.share:
        return
    free = not samples.classified
    level = _free_level(samples, texts, rows, limits) if free else Severity.ERROR
    if not free and len(np.unique(samples.content)) < 0.5 * samples.count:
        level = Severity.INFO  # inputs of few values: equal ones are different cases
    what = "different labels" if samples.classified else "different answers"
    yield Finding(
        severity=level,
        message=f"{len(groups):,} inputs stand with {what}: {units(samples, len(rows))} ({share:.1%})",
        measured={"inputs": Measure(value=len(groups)), "samples": Measure(value=len(rows)),
                  "share": Measure(value=share, threshold=limits.share)},
        rows=listed(samples, rows, [samples.labels[label] if label >= 0 else "" for label in samples.label[rows[:20]]]
                    if samples.classified else None),
        remedy="settle one target for each input",
        **seen("equal inputs by a 128-bit digest"),
    )  # fmt: skip


def _free_level(samples: Samples, texts: TextRecords | None, rows: Ints, limits: ConflictLimits) -> Severity:
    """Answers in free words may differ without contradicting each other."""
    if texts is None:
        return Severity.ERROR  # one recording cannot say two things
    inputs = len(np.unique(samples.content[samples.content >= 0]))
    if len(np.unique(samples.content[rows])) > limits.prompts * inputs:
        return Severity.INFO
    short = (texts.answer_letters[rows] <= limits.short_answer).mean()
    return Severity.ERROR if short > 0.7 else Severity.INFO


class EncodingLimits(Limits):
    """Thresholds of DAT006 on samples."""

    rare: float = 0.1  # of the labels are outside the range of the others
    mapped: float = 0.75  # share of evaluation samples that one exchange of class numbers explains


@look("DAT006")
def spelt_labels(samples: Samples) -> Iterator[Finding]:
    """One class under several spellings."""
    spellings: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(samples.labels):
        spellings[spelling(label)].append(index)
    several = [codes for codes in spellings.values() if len(codes) > 1]
    if not several:
        return
    counts = np.bincount(samples.label[samples.label >= 0], minlength=len(samples.labels))
    odd = [code for codes in several for code in sorted(codes, key=lambda code: -counts[code])[1:]]
    rows = np.flatnonzero(np.isin(samples.label, odd))
    words = "; ".join(" = ".join(repr(samples.labels[code]) for code in codes) for codes in several[:4])
    yield Finding(
        message=f"{len(several)} classes have several spellings ({words}): {units(samples, len(rows))} under the rarer ones",
        measured={"samples": Measure(value=len(rows), threshold=0)},
        rows=listed(samples, rows, [samples.labels[label] for label in samples.label[rows[:20]]]),
        remedy="write each class in one way: label.strip().lower()",
        **seen("the names differ in case, spaces or strokes only"),
    )


@look("DAT006")
def numbered_labels(tensors: TensorSamples, limits: EncodingLimits) -> Iterator[Finding]:
    """Class ids that are negative, apart from the others, shifted between splits, or counted from 1."""
    samples = tensors.samples
    if not samples.classified or not tensors.label_values:
        return
    by_split = {split: dict(values) for split, values in tensors.label_values}
    counts: dict[int, int] = defaultdict(int)
    for values in by_split.values():
        for value, count in values.items():
            counts[int(value)] += count
    total = sum(counts.values())
    ids = sorted(counts)
    runs = {split: sorted(map(int, values)) for split, values in by_split.items()}
    moved = _offset(tensors)
    if moved is not None:
        split, offset = moved
        first, other = runs["train"], runs[split]
        yield Finding(
            message=f"labels run from {first[0]} to {first[-1]} in train and from {other[0]} to {other[-1]} in {split}",
            measured={"offset": Measure(value=offset, threshold=0)},
            remedy=f"number the classes alike: subtract {offset} in {split}",
            **seen("the same classes, shifted"),
        )
        return
    outside = _outside(counts, total, limits)
    if outside:
        rows = np.array(
            [i for i, label in enumerate(samples.label) if label >= 0 and int(samples.labels[label]) in outside]
        )
        inside = [value for value in ids if value not in outside]
        yield Finding(
            message=f"{len(rows):,} of {total:,} labels lie outside the range of the others, {inside[0]} to {inside[-1]}: "
            f"{', '.join(map(str, sorted(outside)[:6]))}",
            measured={
                "labels": Measure(value=len(rows)),
                "share": Measure(value=len(rows) / total, threshold=limits.rare),
            },
            rows=listed(samples, rows, [samples.labels[label] for label in samples.label[rows[:20]]]),
            remedy="map the labels to 0 .. C-1; a label that means nothing needs ignore_index",
            **seen("range of the class ids"),
        )
    elif ids[0] == 1 and len(ids) > 2 and ids == list(range(1, len(ids) + 1)):
        yield Finding(
            severity=Severity.WARNING,
            message=f"labels run from 1 to {ids[-1]}: cross-entropy counts classes from 0",
            measured={"smallest": Measure(value=1, threshold=0)},
            remedy="number the classes from 0: y = y - 1",
            **seen("range of the class ids"),
        )


def _offset(tensors: TensorSamples | None) -> tuple[str, int] | None:
    """A split whose class ids are those of training plus a number."""
    runs = {split: [int(value) for value, _ in values] for split, values in (tensors.label_values if tensors else ())}
    first = runs.get("train")
    for split, other in runs.items():
        if first and len(first) > 2 and other[0] != first[0]:
            offset = other[0] - first[0]
            if other == [value + offset for value in first]:
                return split, offset
    return None


def _outside(counts: dict[int, int], total: int, limits: EncodingLimits) -> set[int]:
    """Ids apart from the run of common ones: negative, or beyond a gap, and rare."""
    if set(counts) <= {-1, 1}:
        return set()
    ids = sorted(counts)
    runs: list[list[int]] = [[ids[0]]]
    for value in ids[1:]:
        if value == runs[-1][-1] + 1 and not (value == 0 and runs[-1][-1] == -1):
            runs[-1].append(value)
        else:
            runs.append([value])
    main = max(runs, key=lambda run: sum(counts[value] for value in run))
    apart = {value for run in runs if run is not main for value in run} - {-100}
    share = sum(counts[value] for value in apart) / total
    usual = np.median([counts[value] for value in main])
    if main[0] == 0 and 0 < share <= limits.rare:
        return apart
    # The last id of an unbroken run, one or two of them among many of each other class: a class too many.
    last = main[-1]
    if not apart and len(main) > 3 and main[0] == 0 and counts[last] <= max(2, 0.02 * usual) and usual >= 100:
        return {last}
    return set()


@look("DAT006")
def exchanged_labels(
    samples: Samples, reference: SampleReference, tensors: TensorSamples | None, limits: EncodingLimits
) -> Iterator[Finding]:
    """Classes that have other numbers in evaluation than in training."""
    if _offset(tensors) is not None:
        return
    told, own = reference.evaluation, reference.own
    chance = 1 / max(reference.classes, 2)
    if len(told.rows) < 40 or reference.training.balanced < chance + 0.4 * (1 - chance):
        return
    if len(own.rows) < 40 or own.balanced < chance + 0.4 * (1 - chance):
        return
    confusion = np.zeros((reference.classes, reference.classes))
    np.add.at(confusion, (told.label, told.probability.argmax(1)), 1)
    meaning = confusion.argmax(1)
    known = np.flatnonzero(confusion.sum(1) >= 5)
    explained = confusion[known, meaning[known]].sum() / confusion[known].sum()
    moved = [
        code for code in known if meaning[code] != code and confusion[code, meaning[code]] > 0.6 * confusion[code].sum()
    ]
    one_to_one = len(set(meaning[known].tolist())) == len(known)
    if (
        len(moved) >= 2
        and one_to_one
        and explained >= limits.mapped
        and told.balanced < 0.6 * reference.training.balanced
    ):
        words = ", ".join(f"{samples.labels[code]} is {samples.labels[meaning[code]]}" for code in moved[:4])
        yield Finding(
            faults=("label-encoding", "misaligned-labels"),
            message=f"{len(moved)} of {len(known)} classes have other labels in evaluation than in training ({words})",
            measured={"explained": Measure(value=float(explained), threshold=limits.mapped)},
            remedy="build the list of classes once, from the training set, and use it for all splits",
            **compared(
                "accuracy of a reference model", told.accuracy, float(explained), "with the labels exchanged back"
            ),
        )


class AbsentLimits(Limits):
    """Thresholds of DAT007 on samples."""

    expected: float = 9.0  # samples of a class by its share; none of them is then a chance of 1 in 8000
    ratio: float = 5.0  # between a class's shares of two splits
    minority: float = 0.25  # of the share 1/C


@look("DAT007")
def absent_classes(samples: Samples, tensors: TensorSamples | None, limits: AbsentLimits) -> Iterator[Finding]:
    """Classes that a split does not have, or has at quite another rate."""
    if not samples.classified or not len(samples.evaluation) or _offset(tensors) is not None:
        return
    if len(samples.labels) > 0.2 * samples.count:
        return
    size = len(samples.labels)
    counts = {
        name: np.bincount(samples.label[(samples.split == code) & (samples.label >= 0)], minlength=size)
        for code, name in enumerate(samples.splits)
    }
    first = samples.splits[int(samples.split[samples.training[0]])] if len(samples.training) else samples.splits[0]
    training = counts.pop(first)
    for name, other in counts.items():
        if not other.sum() or not training.sum():
            continue
        unseen = np.flatnonzero((training == 0) & (other > 0))
        if len(unseen):
            rows = np.flatnonzero(np.isin(samples.label, unseen))
            yield Finding(
                severity=Severity.ERROR if other[unseen].sum() >= 2 else Severity.WARNING,
                message=f"{_classes(len(unseen))} of {name} {_are(len(unseen))} not in {first}: {_named(samples, unseen)} "
                f"({units(samples, len(rows))})",
                measured={"classes": Measure(value=len(unseen), threshold=0)},
                rows=listed(samples, rows),
                remedy="split by class (stratified), or leave these classes out",
                **seen("labels of both splits"),
            )
        expected = training / training.sum() * other.sum()
        absent = np.flatnonzero((other == 0) & (expected >= limits.expected))
        absent = absent[[not samples.labels[code].startswith("-") for code in absent]]  # no class: DAT006 tells of it
        if len(absent):
            yield Finding(
                severity=Severity.WARNING,
                message=f"{_classes(len(absent))} of {first} {_are(len(absent))} not in {name}: {_named(samples, absent)}",
                measured={"expected": Measure(value=float(expected[absent].max()), threshold=limits.expected)},
                remedy="split by class (stratified): the metric says nothing of a class that it does not see",
                **seen("labels of both splits"),
            )
        yield from _shifted(samples, first, name, training, other, limits)


def _classes(count: int) -> str:
    return f"{count} class{'es' * (count != 1)}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _shifted(
    samples: Samples, first: str, name: str, training: Ints, other: Ints, limits: AbsentLimits
) -> Iterator[Finding]:
    shares, others = training / training.sum(), other / other.sum()
    rare = (shares < limits.minority / len(shares)) & (others > limits.ratio * shares) & (other >= 8) & (training > 0)
    codes = np.flatnonzero(rare)
    if len(codes):
        code = int(codes[np.argmax(others[codes] / shares[codes])])
        yield Finding(
            severity=Severity.WARNING,
            message=f"{samples.labels[code]} has {shares[code]:.1%} of the samples in {first} and {others[code]:.1%} in {name}",
            measured={"ratio": Measure(value=float(others[code] / shares[code]), threshold=limits.ratio)},
            remedy="collect more of it, weight the classes, or draw them evenly",
            **seen("labels of both splits"),
        )


def _named(samples: Samples, codes: Ints) -> str:
    names = ", ".join(samples.labels[code] for code in codes[:6])
    return names + (" ..." if len(codes) > 6 else "")
