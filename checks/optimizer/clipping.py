"""Gradients clipped to nothing, or at the wrong place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from doctor.evidence.clip_log import ClipLog, ClipPlace
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.precision_log import PrecisionLog
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.base import Treatment
from doctor.trials.treatments.stepping import ScaleGradients, WidenClipping

_SCALE_FREE = (
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adafactor",
    "Rprop",
    "Lion",
)


class ClippingLimits(Limits):
    """Thresholds of OPT011."""

    min_calls: int = 8
    excess: float = 8.0  # median of how many times the gradient exceeds the limit; clipping that only guards: below 3
    share: float = 0.9  # of the calls that clip
    well: float = 0.3  # share by which the loss of a program that trains well falls in the observed steps
    far: float = 30.0  # excess from which even a loss that falls by half is put on trial
    very_well: float = 0.75
    eps: float = 1e-7  # elements of a clipped gradient below which Adam's eps of 1e-8 is felt
    misplaced: float = 0.9  # share of the calls between a step and the next backward


@check("OPT011", "clip-too-small", Severity.WARNING, faq="tuning/optimizer settings/incorrect")
def clip_too_small(
    log: OptimizerLog, clips: ClipLog, trace: TrainingTrace, precision: PrecisionLog | None, limits: ClippingLimits
) -> Iterator[Finding]:
    """Gradient clipping makes every step tiny, or clips what no step uses.

    ## What it measures
    At each call of `clip_grad_norm_` the norm before it (of `clip_grad_value_` the largest element) over the limit,
    and whether a backward came since the last step. Suspicious is a median above `excess` with `share` of the calls
    clipped, for optimizers whose step grows with the gradient, and for Adam when the clipped elements are as small as
    its eps; the loss must not fall by `well`. Hand-written clipping is seen by the gradient norm after backward against that
    at the step. The trial raises the limit.
    ## Why it hurts
    A limit far below the usual norm divides the learning rate by their ratio; a call at the wrong place guards nothing.
    ## Example
    ```python
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    ```
    ## Use instead
    ```python
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    ```
    ## When it is right
    Adam and its kin divide by the size of the gradient and do not mind its scale. Large rates with a small limit
    (normalised gradients) train well and are silent.
    ## References
    Pascanu et al., "On the difficulty of training recurrent neural networks" (2013): the limit near the mean norm.
    """
    kinds = {record.index: record for record in log.optimizers}
    for place in clips.places:
        if place.calls < limits.min_calls or (precision and precision.scaler.clips_before_unscale):
            continue  # norms of scaled gradients mean nothing: OPT014
        if place.misplaced >= limits.misplaced * place.calls or place.empty >= limits.misplaced * place.calls:
            yield _misplaced(place)
            continue
        owner = kinds.get(place.optimizer if place.optimizer is not None else -1)
        if owner is None or place.clipped_share < limits.share or place.excess < limits.excess:
            continue
        if not _felt(owner, place, limits) or _falls_well(trace, owner.index, place.excess, limits):
            continue
        what = "largest element" if place.function == "clip_grad_value_" else "norm"
        yield _finding(
            f"{place.clipped_share:.0%} of the steps are clipped to {place.limit:g}, {place.excess:.3g} times below the "
            f"gradient's usual {what}",
            Location(path=place.source.path, line=place.source.line) if place.source else Location(),
            place.excess,
            f"clip at about {_round(place.limit * place.excess)}, or not at all",
            WidenClipping(factor=place.excess * 2),
            limits,
        )
    yield from _by_hand(log, clips, trace, limits)


def _by_hand(log: OptimizerLog, clips: ClipLog, trace: TrainingTrace, limits: ClippingLimits) -> Iterator[Finding]:
    changes = [ratio for ratio in clips.changes if ratio > 0]
    if clips.places or len(changes) < 4 or len(log.optimizers) != 1:
        return
    (owner,) = log.optimizers
    kept = median(changes)
    # Averages over micro-batches and unscaled losses divide by the same number each time; clipping does not.
    varied = max(changes) > 1.05 * min(changes)
    if (
        kept > 1 / limits.excess
        or not varied
        or owner.kind in _SCALE_FREE
        or _falls_well(trace, owner.index, 1 / kept, limits)
    ):
        return
    place = owner.setting_sources.get("max_grad_norm") or owner.step_source or owner.created
    yield _finding(
        f"between backward and step the gradient shrinks to {kept:.2g} of its norm",
        Location(path=place.path, line=place.line) if place else Location(),
        1 / kept,
        "clip at about the gradient's usual norm, or not at all",
        ScaleGradients(factor=1 / kept, optimizer=owner.index),
        limits,
    )


def _felt(owner: OptimizerRecord, place: ClipPlace, limits: ClippingLimits) -> bool:
    if owner.kind not in _SCALE_FREE:
        return True
    elements = math.sqrt(max(1, place.elements))
    size = place.limit if place.function == "clip_grad_value_" else place.limit / elements
    return size < limits.eps


def _misplaced(place: ClipPlace) -> Finding:
    empty = place.empty >= place.misplaced
    what = "finds no gradient" if empty else "comes between a step and the next backward"
    return Finding(
        message=f"{place.function} {what} at {place.empty if empty else place.misplaced} of {place.calls} calls: it clips "
        "nothing that a step uses",
        location=Location(path=place.source.path, line=place.source.line) if place.source else Location(),
        measured={"calls": Measure(value=place.calls), "misplaced": Measure(value=max(place.misplaced, place.empty))},
        remedy="call it after loss.backward() and before optimizer.step(), on a list of the parameters",
        demonstrated=f"{max(place.misplaced, place.empty)} of {place.calls} calls change no gradient that is used",
    )


def _finding(
    message: str, location: Location, excess: float, remedy: str, treatment: Treatment, limits: ClippingLimits
) -> Finding:
    return Finding(
        message=message,
        location=location,
        measured={"norm_over_limit": Measure(value=excess, threshold=limits.excess)},
        remedy=remedy,
        treatment=treatment,
    )


def _falls_well(trace: TrainingTrace, optimizer: int, excess: float, limits: ClippingLimits) -> bool:
    first, last = trace.loss_level(optimizer, True), trace.loss_level(optimizer, False)
    losses = trace.losses(optimizer)
    if first is None or last is None or not losses:
        return False
    start = max(losses[0], first)
    return start - last > (limits.very_well if excess >= limits.far else limits.well) * abs(start)


def _round(value: float) -> str:
    return f"{value:.1g}"
