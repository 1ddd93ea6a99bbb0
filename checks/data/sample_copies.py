"""Samples that stand several times, in one split or in both, exactly or nearly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from doctor.evidence.near_duplicates import NearDuplicates
from doctor.evidence.sample_reference import SampleReference
from doctor.evidence.samples import Ints, Samples
from doctor.evidence.tensor_samples import TensorSamples
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check, look

from ._samples import compared, listed, seen, share_of, units, without

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


class CopyLimits(Limits):
    """Thresholds of DAT002, DAT003 and DAT004 on samples."""

    least: int = 3
    share: float = 0.005  # of the samples
    error_share: float = 0.05  # of repeated samples: fewer change little
    by_chance: float = 0.3  # of the training samples occur twice: such inputs repeat by themselves
    unique: float = 0.05  # below it a prompt is of one record, and an equal one in another split is a leak
    text_excess: float = 1.5  # the same, of whole records of text
    excess: float = 3.0  # times as many inputs in both splits as repeat within training
    chance: float = 0.002  # of unrelated samples may be as near as what is called a near-duplicate
    siblings: float = 0.5  # as often near each other within training as across: the data is dense, not leaking


@look("DAT002")
def repeated_samples(samples: Samples, tensors: TensorSamples | None, limits: CopyLimits) -> Iterator[Finding]:
    """Samples equal in input and target to an earlier one of the same split."""
    if tensors is not None and tensors.repeats_by_workers > 1:
        return
    copies = samples.copies[~samples.repeatable[samples.copies]]
    share = share_of(copies, samples)
    if len(copies) < limits.least or share < limits.share:
        return
    dense = _distinct(samples) < 0.5
    level = Severity.ERROR if share >= limits.error_share else Severity.WARNING
    yield Finding(
        severity=Severity.INFO if dense else level,
        message=f"{len(copies):,} of {units(samples, samples.count)} repeat an earlier one of the same split exactly "
        f"({share:.1%})",
        measured={"copies": Measure(value=len(copies)), "share": Measure(value=share, threshold=limits.share)},
        rows=listed(samples, copies),
        remedy="keep one of each",
        **seen("equal contents by a 128-bit digest"),
    )


def _distinct(samples: Samples) -> float:
    """The share of different inputs."""
    known = samples.content[samples.content >= 0]
    return len(np.unique(known)) / max(len(known), 1)


@look("DAT018")
def repeated_by_workers(tensors: TensorSamples) -> Iterator[Finding]:
    """A loader whose workers each give the whole iterable data set."""
    if tensors.repeats_by_workers > 1:
        yield Finding(
            severity=Severity.ERROR,
            message=f"each sample comes {tensors.repeats_by_workers} times: every worker gives the whole data set",
            measured={"times": Measure(value=tensors.repeats_by_workers, threshold=1)},
            remedy="give each worker its part in __iter__: islice(samples, info.id, None, info.num_workers)",
            **seen("the loader was iterated once"),
        )


@look("DAT003")
def leaked_samples(samples: Samples, reference: SampleReference | None, limits: CopyLimits) -> Iterator[Finding]:
    """Evaluation samples whose input stands in the training set."""
    if not len(samples.evaluation):
        return
    leaked = _leaked(samples, limits)
    share = len(leaked) / len(samples.evaluation)
    if not len(leaked):
        return
    by_chance = samples.repeat_rate(samples.training) > limits.by_chance
    # Short texts from a template meet by chance, too; pictures and recordings never do.
    natural = samples.kind == "text" and share < limits.text_excess * samples.repeat_rate(samples.training)
    sure = len(leaked) >= limits.least and share >= limits.share and not by_chance and not natural
    yield Finding(
        severity=Severity.ERROR if sure else Severity.INFO,
        message=f"{len(leaked):,} of {len(samples.evaluation):,} {_others(samples)} {samples.unit}s stand in the training "
        f"set, too ({share:.1%})",
        measured={"leaked": Measure(value=len(leaked)), "share": Measure(value=share, threshold=limits.share)},
        rows=listed(samples, leaked, of=len(samples.evaluation)),
        remedy="take them out of the training set, or out of the others; split before copying and augmenting",
        **_cost(reference, leaked, "equal contents by a 128-bit digest"),
    )


def _leaked(samples: Samples, limits: CopyLimits) -> Ints:
    """By input alone where inputs are hardly ever alike; free answers else count, too."""
    rows = samples.leaked
    by_chance = samples.repeat_rate(samples.training)
    if not samples.classified and by_chance < limits.unique:
        known = samples.content[samples.training]
        alike = samples.evaluation[np.isin(samples.content[samples.evaluation], known[known >= 0])]
        # Prompts from one template meet by chance: across splits as often as within training.
        rows = alike if len(alike) > limits.excess * by_chance * len(samples.evaluation) else rows
    return rows[~samples.repeatable[rows]]


def _others(samples: Samples) -> str:
    return " and ".join(split for split in samples.splits if split != "train")


def _cost(reference: SampleReference | None, leaked: Ints, note: str) -> dict[str, Any]:
    """What the leak does to the metric of a model of simple features."""
    if reference is None:
        return seen(note)
    told = reference.evaluation
    inside = np.isin(told.rows, leaked)
    if not inside.any() or inside.all():
        return seen(note)
    with_leak, without_leak = float(told.right.mean()), float(told.right[~inside].mean())
    return compared(
        "accuracy of a reference model", with_leak, without_leak,
        f"{note}; a reference model is right on {told.right[inside].mean():.1%} of the leaked and {without_leak:.1%} of "
        f"the other samples",
    )  # fmt: skip


@check("DAT004", "near-duplicate-leakage", Severity.ERROR, faq="training/data/duplicated")
def near_duplicate_leakage(
    samples: Samples, near: NearDuplicates, reference: SampleReference | None, limits: CopyLimits
) -> Iterator[Finding]:
    """Evaluation samples are copies of training samples, changed a little.

    ## What it measures
    The distance of every evaluation sample to the nearest training sample: pictures of 16 x 16 pixels without their
    brightness and contrast (also mirrored, moved, scaled and turned a little), mel spectra without their loudness, MinHash sketches of 5-letter pieces,
    vectors of unit variance. Near are those nearer than a share `chance` of unrelated samples would be, by a Weibull
    distribution fitted to the distances among training samples, and near by an absolute measure as well (pictures: a
    correlation of 0.98; texts: an overlap of 0.6). Rows of tables are near where two thirds of their columns agree to within
    a few hundredths of the column's spread, or a column of texts overlaps by 0.6, and training rows seldom do so.
    ## Why it hurts
    The score is partly that of memory, though no two samples are equal byte by byte.
    ## Example
    ```python
    images = augment(images)
    train, test = random_split(images, [0.8, 0.2])
    ```
    ## Use instead
    ```python
    train, test = random_split(images, [0.8, 0.2])
    train = augment(train)
    ```
    ## When it is right
    Near-duplicates within one split are silent; so is data in which training samples are as near to each other (texts
    from a template, frames of fixed cameras): there it is an info.
    ## References
    Broder, "On the resemblance and containment of documents" (1997); Barz and Denzler, "Do we train on test data?" (2020).
    """
    threshold = near.threshold(limits.chance)
    hits = np.flatnonzero(near.distance < threshold)
    expected = limits.chance * len(near.rows)
    share = len(hits) / max(len(samples.evaluation), 1)
    if len(hits) < max(limits.least + 1, 4 * expected) or share < limits.share:
        return
    usual = float((near.usual < threshold).mean())
    dense = usual > limits.siblings * len(hits) / max(len(near.rows), 1)
    rows = near.rows[hits]
    twins = near.twins[hits]
    values = [f"like {samples.names[twin]} {samples.row[twin]}" for twin in twins[:20]]
    yield Finding(
        severity=Severity.INFO if dense else Severity.ERROR,
        message=f"{len(rows):,} of {len(samples.evaluation):,} {_others(samples)} {samples.unit}s are near-duplicates of "
        f"training {samples.unit}s ({share:.1%}); of the training {samples.unit}s {usual:.1%} have such a sibling",
        measured={
            "near_duplicates": Measure(value=len(rows)),
            "share": Measure(value=share, threshold=limits.share),
            "distance": Measure(value=float(np.median(near.distance[hits])), threshold=threshold),
        },
        rows=listed(samples, rows, values, of=len(samples.evaluation)),
        remedy="split by what the samples were made from (person, scene, document), then augment",
        **(
            {} if dense else _cost(reference, without(rows, np.zeros(0, np.int64)), "nearer than unrelated samples are")
        ),
    )
