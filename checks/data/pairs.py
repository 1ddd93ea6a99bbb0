"""Inputs and targets that contradict each other, and columns that should not be features."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.data_lines import DataLines
from doctor.evidence.input_moments import InputStatistics
from doctor.evidence.pair_facts import PairFacts
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from ._places import location


class PairLimits(Limits):
    """Thresholds of DAT005, DAT010, DAT011, DAT013 and DAT025."""

    contradicted: float = 0.03  # of the distinct inputs
    lonely: float = 0.06  # healthy digits: 0.01; classes that overlap at 4 to 1: 0.03
    flipped: float = 0.15  # of two classes; separable healthy sets: below 0.07
    least_contradicted: int = 5
    coarse: float = 0.6  # of the distinct inputs: more is what a few coarse columns do, not an annotator


class DriftLimits(Limits):
    """Thresholds of DAT015."""

    shift: float = 1.0  # training deviations, of a column's mean
    errors: float = 8.0  # standard errors of the evaluation's mean
    min_samples: int = 64


@check("DAT005", "conflicting-labels", Severity.WARNING, faq="training/data/incorrect")
def conflicting_labels(pairs: PairFacts, lines: DataLines | None, limits: PairLimits) -> Iterator[Finding]:
    """The same input stands with different labels.

    ## What it measures
    Among the distinct inputs of the first training batches (up to 1,200 samples), the share that occurs with more than
    one class. Fires from `contradicted`.
    ## Why it hurts
    No model can be right about both: the loss has a floor, and what is learnt is an average.
    ## Example
    ```python
    frame = pd.concat([first_annotator, second_annotator])
    ```
    ## Use instead
    ```python
    frame = pd.concat([first_annotator, second_annotator]).groupby("text", as_index=False).label.agg(majority)
    ```
    ## When it is right
    Several annotators' opinions on purpose; tables of a few coarse columns, in which equal rows are different cases:
    where more than `coarse` of the inputs contradict themselves it is told as info.
    ## References
    deepchecks, ConflictingLabels.
    """
    share = pairs.contradicted / pairs.samples
    if pairs.contradicted >= limits.least_contradicted and share >= limits.contradicted:
        yield Finding(
            message=f"{pairs.contradicted} of {pairs.samples} distinct inputs stand with more than one label",
            location=location(lines.targets() if lines else None, lines.inputs() if lines else None),
            severity=Severity.INFO if share > limits.coarse else None,
            measured={"contradicted": Measure(value=share, threshold=limits.contradicted)},
            remedy="settle one label for each input before the data is loaded",
            demonstrated="equal contents, different classes",
        )


@check("DAT013", "label-noise", Severity.WARNING, faq="training/data/incorrect")
def label_noise(pairs: PairFacts, lines: DataLines | None, limits: PairLimits) -> Iterator[Finding]:
    """Many labels contradict all samples around them.

    ## What it measures
    For each distinct training sample (up to 1,200, at least 300) of three classes or more its eight nearest neighbours in
    standardised inputs: the share of samples whose neighbours agree on a label (six or more) while none of them has
    the sample's own. Where classes overlap both kinds are found nearby; a label that was changed stands alone.
    Of two classes: the share of labels that contradict 25 neighbours of which two thirds have the other class, where 84 %
    of all samples lie in such a surrounding, of one class or the other (`flipped`).
    ## Why it hurts
    A large model learns the wrong labels by heart, a small one cannot fall below the share of them.
    ## Example
    ```python
    labels = np.where(rng.random(n) < 0.3, rng.integers(0, 10, n), labels)
    ```
    ## Use instead
    ```python
    labels = reviewed_labels
    ```
    ## When it is right
    Inputs in which distance says little (natural images, long texts) have no agreeing neighbours and are silent.
    ## References
    Northcutt et al., "Confident Learning" (2021); Wilson, "Edited nearest neighbours" (1972).
    """
    if pairs.flipped is not None and pairs.flipped >= limits.flipped:
        yield Finding(
            message=f"{pairs.flipped:.0%} of {pairs.samples} labels contradict a surrounding in which the other class is "
            "clearly at home, wherever in the inputs one looks",
            location=location(lines.targets() if lines else None, lines.inputs() if lines else None),
            measured={"flipped_labels": Measure(value=pairs.flipped, threshold=limits.flipped)},
            remedy="review the labels that a cross-validated model contradicts with confidence",
            demonstrated="labels that stand alone among agreeing neighbours",
        )
    if pairs.lonely is not None and pairs.lonely >= limits.lonely:
        yield Finding(
            message=f"{pairs.lonely:.0%} of {pairs.samples} labels contradict all of their nearest neighbours, which agree "
            "among themselves",
            location=location(lines.targets() if lines else None, lines.inputs() if lines else None),
            measured={"lonely_labels": Measure(value=pairs.lonely, threshold=limits.lonely)},
            remedy="review the labels that a cross-validated model contradicts with confidence",
            demonstrated="labels that stand alone among agreeing neighbours",
        )


def _loader(batches: BatchLog | None) -> Source | None:
    return next((loader.source for loader in (batches.loaders if batches else ()) if loader.used_in_training), None)


@check("DAT011", "target-leakage", Severity.WARNING, faq="training/data/incorrect")
def target_leakage(
    pairs: PairFacts, lines: DataLines | None, batches: BatchLog | None, limits: PairLimits
) -> Iterator[Finding]:
    """A feature gives the target away.

    ## What it measures
    Columns of a table that have exactly one value a class, or correlate with a numeric target at 0.999 or more. Places of
    a window (steps by features) that hold the target itself, on whatever scale.
    ## Why it hurts
    The model reads the answer off that column, which will not be there when it is used.
    ## Example
    ```python
    features = frame.drop(columns=["target"])
    ```
    ## Use instead
    ```python
    features = frame.drop(columns=["target", "target_code"])
    ```
    ## When it is right
    A continuous feature from which the class follows by a threshold is no copy of it, and is silent.
    ## References
    Kaufman et al., "Leakage in data mining" (2012).
    """
    if pairs.telling and len(pairs.shape) == 2:
        step, feature = divmod(pairs.telling[0], pairs.shape[1])
        yield Finding(
            message=f"step {step} of {pairs.shape[0]} in each window, feature {feature}, is the target itself",
            location=location(lines.windows() if lines else None, lines.inputs() if lines else None, _loader(batches)),
            measured={"telling_places": Measure(value=len(pairs.telling), threshold=0)},
            remedy="end each window before what is to be forecast",
            demonstrated=f"so it is for all {pairs.samples} samples seen",
        )
    elif pairs.telling:
        yield Finding(
            message=f"column {pairs.telling[0]} of {pairs.columns} tells the target by itself: "
            + ("one value for each class" if pairs.classes else "a correlation of 0.999 or more"),
            location=location(lines.inputs() if lines else None, _loader(batches), column=str(pairs.telling[0])),
            measured={"telling_columns": Measure(value=len(pairs.telling), threshold=0)},
            remedy="leave the column out, unless it is known before the target is",
            demonstrated=f"so it is for all {pairs.samples} samples seen",
        )


@check("DAT025", "id-column-feature", Severity.WARNING, faq="training/data/incorrect")
def id_column_feature(
    pairs: PairFacts, lines: DataLines | None, batches: BatchLog | None, limits: PairLimits
) -> Iterator[Finding]:
    """A column that only counts the samples is used as a feature.

    ## What it measures
    Columns of a table of four or more whose values are all different and whole multiples of one step.
    ## Why it hurts
    The number of a row says nothing of the next row, but lets a model learn rows by heart, and the order of collection.
    ## Example
    ```python
    x = frame.drop(columns="label").values
    ```
    ## Use instead
    ```python
    x = frame.drop(columns=["label", "patient_id"]).values
    ```
    ## When it is right
    A time index in a forecast of a trend. Measured integers repeat themselves, and are silent.
    ## References
    deepchecks, IdentifierLabelCorrelation; scikit-learn's common pitfalls.
    """
    if pairs.counting and pairs.columns >= 4:
        yield Finding(
            message=f"column {pairs.counting[0]} of {pairs.columns} has another value for each of {pairs.samples} samples, all "
            "multiples of one step: a number of the row",
            location=location(lines.inputs() if lines else None, _loader(batches), column=str(pairs.counting[0])),
            measured={"counting_columns": Measure(value=len(pairs.counting), threshold=0)},
            remedy="leave identifiers and row numbers out of the features",
            demonstrated="all values differ, on a regular grid",
        )


@check("DAT010", "degenerate-features", Severity.INFO, faq="training/data/missing")
def degenerate_features(pairs: PairFacts, lines: DataLines | None, limits: PairLimits) -> Iterator[Finding]:
    """Columns that are the same for every sample are used as features.

    ## What it measures
    Columns of a table with one value over all samples seen (up to 1,200).
    ## Why it hurts
    They carry nothing, and often show that a join or a parse went wrong.
    ## Example
    ```python
    frame["region"] = frame["region_code"].map(names).fillna("other")
    ```
    ## Use instead
    ```python
    frame["region"] = frame["region_code"].astype(int).map(names)
    ```
    ## When it is right
    Border pixels of small images, rare words: hence an info only.
    ## References
    deepchecks, IsSingleValue.
    """
    if pairs.constant:
        yield Finding(
            message=f"{len(pairs.constant)} of {pairs.columns} columns have one value for all {pairs.samples} samples, column "
            f"{pairs.constant[0]} first",
            location=location(lines.inputs() if lines else None, column=str(pairs.constant[0])),
            measured={"constant_columns": Measure(value=len(pairs.constant), threshold=0)},
            remedy="drop the columns, or look how they were made",
        )


@check("DAT015", "distribution-drift", Severity.INFO, faq="training/data/incorrect")
def distribution_drift(statistics: InputStatistics, lines: DataLines | None, limits: DriftLimits) -> Iterator[Finding]:
    """Evaluation inputs come from another distribution than training inputs.

    ## What it measures
    The mean of each channel or column in evaluation against training: fires where one moved by `shift` training
    deviations and by `errors` standard errors. Scales that changed are DAT016's.
    ## Why it hurts
    The metric speaks of other data than the model was made for, or the split followed something that matters.
    ## Example
    ```python
    train, test = frame[:8000], frame[8000:]
    ```
    ## Use instead
    ```python
    train, test = train_test_split(frame, random_state=0)
    ```
    ## When it is right
    Forecasts are evaluated on later data on purpose: hence an info only.
    ## References
    Rabanser et al., "Failing loudly" (2019).
    """
    for pair in statistics.inputs:
        one, other = pair.training, pair.evaluation
        if other is None or min(one.samples, other.samples) < limits.min_samples or len(one.mean) != len(other.mean):
            continue
        shifts = [
            abs(b - a) / s if s > 1e-6 * (1 + abs(a)) else 0.0
            for a, b, s in zip(one.mean, other.mean, one.std, strict=True)
        ]
        most = max(range(len(shifts)), key=shifts.__getitem__)
        spread = other.between[most] / max(one.std[most], 1e-12)
        error = max(spread, 1e-3) / other.samples**0.5
        if shifts[most] >= limits.shift and shifts[most] >= limits.errors * error:
            yield Finding(
                message=f"column {most} has mean {one.mean[most]:.4g} in training and {other.mean[most]:.4g} in evaluation, "
                f"{shifts[most]:.2g} deviations apart",
                location=location(lines.evaluation_inputs() if lines else None, other.source, column=str(most)),
                measured={"shift": Measure(value=shifts[most], threshold=limits.shift, unit="deviations")},
                remedy="split at random, or by a group that will be new in use as well",
            )
            return
