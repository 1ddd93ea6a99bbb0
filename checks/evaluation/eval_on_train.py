"""Evaluation on what the model was trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.data_lines import DataLines
from doctor.evidence.evaluation_use import EvaluatedRows, EvaluationUse
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check, look

_HELD_OUT = re.compile(r"(?:^|[^a-z])(test|val|valid|validation|held|dev|holdout)(?:[^a-z]|$)", re.I)


class EvalOnTrainLimits(Limits):
    """Thresholds of EVL005."""

    share: float = 0.95  # of the evaluated samples that were trained on, or the other way round
    min_rows: int = 20
    whole: float = 0.9  # of the training samples are evaluated; fewer is a test set that training holds as well
    repeated: float = 0.1  # of a batch's rows: inputs that coarse are alike by nature


@check("EVL005", "eval-on-train", Severity.ERROR, faq="training/data/duplicated")
def eval_on_train(use: EvaluationUse, log: BatchLog | None, limits: EvalOnTrainLimits) -> Iterator[Finding]:
    """What is called test or validation runs over the training samples.

    ## What it measures
    Contents of the samples in training and in each line of evaluation, and which loaders have the same data. Fires when
    no line of evaluation saw other samples than training did, and the line speaks of a test or validation, or a further
    loader, or other data called test or validation, was made and never read.
    ## Why it hurts
    The number shows what was memorised, not what was learnt.
    ## Example
    ```python
    val_loader = DataLoader(train_set, batch_size=256)
    ```
    ## Use instead
    ```python
    val_loader = DataLoader(val_set, batch_size=256)
    ```
    ## When it is right
    The training accuracy, told as such or besides that of other samples; tables of a few coarse columns, in which
    different cases look alike; graphs and full batches, whose split is a
    mask on the outputs.
    ## References
    Kaufman et al., "Leakage in Data Mining" (2012).
    """
    places = [place for place in use.places if place.rows >= limits.min_rows]
    if any(place.repeated > limits.repeated for place in places):
        return
    if not places or any(not _same(place, limits) for place in places) or any(place.whole for place in places):
        return
    loaders = log.loaders if log else ()
    for place in places:
        twin = next((n for n in place.loaders if use.same_data(n)), None)
        made = next((r.source for r in loaders if r.index == twin and not r.used_in_training), None)
        named = next((i for i, text in enumerate(place.texts) if _HELD_OUT.search(text)), None)
        unread = [r for r in loaders if not r.batches and not r.used_in_training]
        if named is None and not unread and not place.unread:
            continue
        mixed = place.shared < limits.whole * place.trained
        training = next((r.source for r in loaders if r.used_in_training), None) if mixed else None
        at = made or training or _where(place, named)
        yield Finding(
            message=f"{place.shared} of {place.rows} evaluated samples are samples of the training"
            + (f"; the loader of {unread[0].source} is never read" if unread else "")
            + (f"; {', '.join(place.unread[:3])} is never read" if place.unread and not unread else ""),
            location=Location(path=at.path if at else None, line=at.line if at else None),
            measured={"shared_samples": Measure(value=place.shared, threshold=limits.share)},
            faults=("train-test-leakage", "eval-on-train") if mixed else (),
            remedy="evaluate on samples that the training does not see",
            demonstrated="the contents of the samples are equal",
        )
        return


@look("EVL005")
def trained_on_the_whole(lines: DataLines, log: BatchLog) -> Iterator[Finding]:
    """The training reads the whole from which a training and a held-out part were split off."""
    for line in lines.of("whole")[:1]:
        if any(loader.used_in_training for loader in log.loaders):
            (part,), (whole,) = line.names, line.arguments
            yield Finding(
                message=f"the training reads {whole}, the held-out part included; {part}, which was split off it, feeds no "
                "data set",
                location=Location(path=line.source.path, line=line.source.line),
                severity=Severity.WARNING,
                faults=("train-test-leakage", "eval-on-train"),
                measured={"data_sets_of_the_part": Measure(value=0, threshold=1)},
                remedy=f"train on {part}",
                demonstrated="read from the source",
            )


def _same(place: EvaluatedRows, limits: EvalOnTrainLimits) -> bool:
    return place.shared >= limits.share * place.rows or (
        place.trained >= limits.min_rows and place.shared >= limits.share * place.trained
    )


def _where(place: EvaluatedRows, named: int | None) -> Source | None:
    for text, line in zip(place.texts, place.lines, strict=False):
        if "train" in text:
            return line
    return place.lines[named] if named is not None and named < len(place.lines) else place.source
