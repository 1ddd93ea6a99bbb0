"""Evaluation inputs that were prepared in another way than the training inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from doctor.evidence.data_lines import DataLines
from doctor.evidence.input_moments import InputMoments, InputStatistics, Moments
from doctor.evidence.token_log import TokenLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check, look
from doctor.trials.treatments import StandardiseInputs

from ._places import location

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class MismatchLimits(Limits):
    """Thresholds of DAT016, DAT023 and DAT024."""

    factor: float = 4.0  # between the deviations of most channels
    error_factor: float = 20.0
    shift: float = 2.5  # of most channels' means, in deviations
    raw_shift: float = 1.0  # the same, where one channel is far off besides: raw columns against standardised ones
    raw_farthest: float = 5.0  # that one's mean, in deviations
    min_samples: int = 32
    order_errors: float = 6.0  # standard errors by which channel means differ as they stand
    raw_factor: float = 2.5  # the same, where training is standardised and evaluation has no sign
    below: float = -0.3  # lowest value of a feature that has a sign
    bounded_features: int = 2  # that have one in training, and span just 0 to 1 in evaluation; at least half of those
    exact: float = 2e-4  # mean and deviation this near to 0 and 1 are those of these very samples
    far: float = 1.5  # |mean| of every channel of images that have negative values, in units of the deviation
    narrow: float = 0.2  # their deviation
    wide: float = 4.0


class TokenMismatchLimits(Limits):
    """Thresholds of DAT016 on tokens."""

    share: float = 0.15  # of the evaluated tokens; words that a small corpus has not seen are some 5 %
    known: float = 0.25  # share in training, over that in evaluation
    # A vocabulary cut to its commonest words has strangers in training, too: texts of another kind hold some times more.
    cut: float = 0.12
    most: float = 0.35  # of the evaluated tokens: nothing natural any more
    used: int = 50  # different ids
    sequences: int = 32  # in training and in evaluation


@check(
    "DAT016", "preprocessing-mismatch", Severity.WARNING, faq="training/data/incorrect",
    faults=("preprocessing-mismatch", "wrong-normalization-stats"),
)  # fmt: skip
def preprocessing_mismatch(
    statistics: InputStatistics, lines: DataLines | None, limits: MismatchLimits
) -> Iterator[Finding]:
    """Training and evaluation inputs differ by a scale or an offset, or each was normalised by its own statistics.

    ## What it measures
    Mean and deviation of every channel (feature) of the inputs in training and in evaluation: most deviations differ by
    `factor`, or most means by `shift` deviations (by `raw_shift`, where one is off by `raw_farthest`); or both parts have mean 0 and deviation 1 to within `exact` in every
    feature, which happens only when each was standardised by itself; or the source fits a scaler on the held-out part,
    too. Of token ids: one id makes a large share of the
    evaluated tokens and hardly any in training.
    ## Why it hurts
    The model is asked about inputs of a kind that it has never seen.
    ## Example
    ```python
    train_x = scaler.fit_transform(train_x)
    logits = model(test_x)
    ```
    ## Use instead
    ```python
    train_x = scaler.fit_transform(train_x)
    logits = model(scaler.transform(test_x))
    ```
    ## When it is right
    Augmentation, sampling noise and the drift of single features stay below these factors; generators that are sampled
    from noise do so in training as well.
    ## References
    Sculley et al., "Hidden technical debt in machine learning systems" (2015): training-serving skew.
    """
    for pair in statistics.inputs:
        other = pair.evaluation
        if other is None or other.samples < limits.min_samples or pair.training.samples < limits.min_samples:
            continue
        factor, shift, farthest = _compared(pair.training, other)
        own = limits.factor if len(other.mean) > 1 else 1.5 * limits.factor
        moved = shift > limits.shift or (shift > limits.raw_shift and farthest > limits.raw_farthest)
        if max(factor, 1 / factor) > own or moved or _lost_sign(pair.training, other, factor, limits):
            yield _mismatch(pair, other, factor, shift, lines, limits)
            return
        signed = _between_bounds(pair.training, other, limits)
        if signed:
            yield Finding(
                severity=Severity.WARNING,
                message=f"{signed} of {len(other.mean)} features have values on both sides of 0 in training, and span just 0 to 1 "
                "in evaluation: another scaling, or none",
                location=location(lines.evaluation_inputs() if lines else None, other.source),
                measured={"features": Measure(value=signed, threshold=limits.bounded_features)},
                remedy="prepare evaluation inputs by the very transform, with the very statistics, of training",
                demonstrated="lowest and highest values in training and in evaluation",
            )
            return
        if _each_by_itself(pair.training, other, limits):
            made = [line.source for line in (lines.of("normalise") if lines else []) if "fit" in line.call]
            yield Finding(
                severity=Severity.WARNING,
                message=f"every feature has mean 0 and deviation 1 among the {other.samples} evaluated samples as well as "
                f"in training: each part was standardised by its own statistics",
                location=location(made[-1] if len(made) > 1 else None, other.source),
                measured={"mean": Measure(value=max(map(abs, other.mean)), threshold=limits.exact)},
                remedy="fit the scaler on the training part, and only transform the others",
                demonstrated="sample statistics of exactly 0 and 1",
            )
            return
    refitted = lines.refitted() if lines else None
    if refitted is not None and any(pair.evaluation for pair in statistics.inputs):
        yield Finding(
            message="the held-out part is prepared by statistics of its own: the scaler is fitted on it anew",
            location=location(refitted, None),
            measured={"fits_on_held_out_data": Measure(value=1, threshold=0)},
            remedy="fit the scaler on the training part, and only transform the others",
            demonstrated="the source fits it twice, once on the held-out part",
        )


@look("DAT016")
def tokens_mismatch(tokens: TokenLog, lines: DataLines | None, limits: TokenMismatchLimits) -> Iterator[Finding]:
    """Evaluated texts of which many tokens are one id that training hardly knows: the id for what is not in the vocabulary.

    Ids that follow themselves are no such: a model that writes its own text repeats itself.
    """
    for record in tokens.embeddings:
        found = record.strange
        if found is None or record.used < limits.used or min(found.before, found.after) < limits.sequences:
            continue
        if found.evaluation < limits.share or found.training > limits.known * found.evaluation:
            continue
        if found.runs > found.evaluation + 0.25 * (
            1 - found.evaluation
        ):  # by chance it follows itself at its own share
            continue
        natural = found.training > limits.cut * found.evaluation and found.evaluation < limits.most
        yield Finding(
            severity=Severity.INFO if natural else None,
            message=f"{found.evaluation:.0%} of the evaluated tokens are id {found.number}, which makes {found.training:.1%} "
            "of the tokens in training: the texts are cut into tokens in another way, and are unknown to the vocabulary",
            location=location(lines.evaluation_inputs() if lines else None, record.source),
            measured={
                "share_in_evaluation": Measure(value=found.evaluation, threshold=limits.share),
                "share_in_training": Measure(value=found.training, threshold=limits.known * found.evaluation),
            },
            remedy="prepare evaluation texts with the tokenizer and the cleaning of training",
            demonstrated=f"id {found.number}: {found.training:.1%} in training, {found.evaluation:.0%} in evaluation",
            faults=("preprocessing-mismatch", "token-out-of-vocab"),
        )
        return


@check(
    "DAT024", "wrong-channel-order", Severity.WARNING, faq="training/data/incorrect",
    faults=("wrong-channel-order", "preprocessing-mismatch"),
)  # fmt: skip
def wrong_channel_order(
    statistics: InputStatistics, lines: DataLines | None, limits: MismatchLimits
) -> Iterator[Finding]:
    """Evaluation images have their colour channels in another order than training images.

    ## What it measures
    Means of the three channels in training and in evaluation: as they stand they differ by more than `order_errors`
    standard errors, in reverse order they agree.
    ## Why it hurts
    Red is blue: what the model learnt of colours is wrong.
    ## Example
    ```python
    image = cv2.imread(path)
    ```
    ## Use instead
    ```python
    image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    ```
    ## When it is right
    Grey images and channels of equal means cannot tell, and are silent.
    ## References
    OpenCV documentation of imread: channels are stored in B G R order.
    """
    for pair in statistics.inputs:
        one, other = pair.training, pair.evaluation
        if pair.dims != 4 or other is None or len(one.mean) != 3 or other.samples < limits.min_samples:
            continue
        straight = _errors_between(one, other, (0, 1, 2))
        turned = _errors_between(one, other, (2, 1, 0))
        if straight > limits.order_errors and turned < 0.4 * straight and turned < limits.order_errors:
            yield Finding(
                message=f"channel means are {_numbers(one.mean)} in training and {_numbers(other.mean)} in evaluation: "
                f"the order is reversed (RGB against BGR)",
                location=location(lines.evaluation_inputs() if lines else None, other.source),
                measured={"errors": Measure(value=straight, threshold=limits.order_errors)},
                remedy="read both in one order: image[..., ::-1] or cv2.COLOR_BGR2RGB",
                demonstrated=f"in reverse order the means agree within {turned:.1f} standard errors",
            )
            return


@check(
    "DAT023", "wrong-normalization-stats", Severity.WARNING, faq="training/data/incorrect",
    faults=("wrong-normalization-stats",),
)  # fmt: skip
def wrong_normalization_stats(
    statistics: InputStatistics, lines: DataLines | None, limits: MismatchLimits
) -> Iterator[Finding]:
    """Images were normalised by statistics of another scale, or by mean and deviation in exchanged roles.

    ## What it measures
    Mean and deviation of the channels of images that have negative values (and so were shifted): every channel has
    deviation below `narrow` or above `wide`, or a mean farther than `far` deviations from 0. The trial standardises them.
    ## Why it hurts
    All images look alike to the first layer, or saturate it.
    ## Example
    ```python
    transform = T.Compose([T.PILToTensor(), T.ConvertImageDtype(torch.float), T.Normalize(255 * mean, 255 * std)])
    ```
    ## Use instead
    ```python
    transform = T.Compose([T.PILToTensor(), T.ConvertImageDtype(torch.float), T.Normalize(mean, std)])
    ```
    ## When it is right
    Dark or sparse images, and models that normalise their input first, are silent.
    ## References
    torchvision.transforms.Normalize.
    """
    for pair in statistics.inputs:
        found = pair.training
        if pair.dims != 4 or found.samples < limits.min_samples or min(found.low) >= 0 or min(found.std) <= 0:
            continue
        offsets = [abs(mean) / std for mean, std in zip(found.mean, found.std, strict=True)]
        narrow, wide = max(found.std) < limits.narrow, min(found.std) > limits.wide
        swapped = _exchanged(found)
        if not (swapped or narrow or wide or min(offsets) > limits.far):
            continue
        made = [line.source for line in (lines.of("normalise") if lines else []) if line.call.lower() == "normalize"]
        yield Finding(
            message=f"normalised images have channel means {_numbers(found.mean)} and deviations {_numbers(found.std)}"
            + ("; mean and deviation were exchanged" if swapped else ""),
            location=location(made[0] if made else None, found.source),
            measured={"deviation": Measure(value=max(found.std), threshold=limits.narrow)},
            remedy="normalise by the mean and deviation of these images, on the scale that they have at that point",
            treatment=StandardiseInputs(mean=found.mean, std=found.std, axis=1, root=pair.root),
            demonstrated="the images span just 0 to 1 once mean and deviation are exchanged back" if swapped else None,
        )
        return


_FEW_CHANNELS = 4


def _compared(one: Moments, other: Moments) -> tuple[float, float, float]:
    """Over the varying channels: median ratio of deviations, median and largest shift of the mean in deviations."""
    varying = [i for i, std in enumerate(one.std) if std > 1e-6 * (1 + abs(one.mean[i]))]
    both = [i for i in varying if other.std[i] > 1e-6 * (1 + abs(other.mean[i]))]
    if len(both) < len(varying) and len(varying) > _FEW_CHANNELS:
        varying = both  # a rare word, an empty category: constant among the few samples of an evaluation
    if len(varying) < 0.5 * len(one.std):
        return 1.0, 0.0, 0.0  # sparse columns: two samples of them differ by more than their scale
    ratios = [max(other.std[i], 1e-12) / one.std[i] for i in varying]
    shifts = [abs(other.mean[i] - one.mean[i]) / max(one.std[i], other.std[i]) for i in varying]
    alike = min(ratios) > 0.05 * max(ratios) or median(ratios) > 10 or median(ratios) < 0.1
    return (median(ratios) if alike else 1.0), median(shifts), max(shifts)


def _lost_sign(one: Moments, other: Moments, factor: float, limits: MismatchLimits) -> bool:
    """Whether training has mean 0 and deviation 1 in every channel, and evaluation only values from 0 on, on another scale."""
    standard = all(abs(mean) < 0.15 and 0.85 < std < 1.15 for mean, std in zip(one.mean, one.std, strict=True))
    signed = max(one.low, default=0.0) < limits.below and min(other.low, default=-1.0) >= 0
    return standard and signed and max(factor, 1 / factor) > limits.raw_factor


def _between_bounds(one: Moments, other: Moments, limits: MismatchLimits) -> int:
    """How many features have a sign in training and lie within 0 to 1 in evaluation; 0 unless it is all of the former."""
    signed = [i for i, low in enumerate(one.low) if low < limits.below]
    if len(signed) < max(limits.bounded_features, 0.5 * len(one.low)):
        return 0
    within = all(other.low[i] >= 0 and other.high[i] <= 1 + 1e-6 for i in signed)
    touched = sum(other.low[i] == 0 or abs(other.high[i] - 1) <= 1e-6 for i in signed)
    return len(signed) if within and 2 * touched >= len(signed) else 0


def _mismatch(
    pair: InputMoments, other: Moments, factor: float, shift: float, lines: DataLines | None, limits: MismatchLimits
) -> Finding:
    one = pair.training
    ranges = f"{min(one.low):.4g} to {max(one.high):.4g} in training, {min(other.low):.4g} to {max(other.high):.4g}"
    strong = max(factor, 1 / factor) > limits.error_factor
    return Finding(
        severity=Severity.ERROR if strong else Severity.WARNING,
        message=f"inputs range from {ranges} in evaluation: deviations differ by a factor of {factor:.3g}, means by "
        f"{shift:.2g} deviations",
        location=location(lines.evaluation_inputs() if lines else None, other.source),
        measured={
            "factor": Measure(value=factor, threshold=limits.factor),
            "shift": Measure(value=shift, threshold=limits.shift),
        },
        remedy="prepare evaluation inputs by the same steps and the same statistics as training inputs",
        demonstrated="statistics of the inputs as the model was called with them",
    )


def _each_by_itself(one: Moments, other: Moments, limits: MismatchLimits) -> bool:
    def exact(found: Moments) -> bool:
        varying = [i for i, std in enumerate(found.std) if std > 0]
        near = (abs(found.mean[i]) < limits.exact and abs(found.std[i] - 1) < 25 * limits.exact for i in varying)
        return len(varying) >= 3 and all(near)

    return exact(other) and all(
        abs(mean) < 0.3 and 0.7 < std < 1.4 for mean, std in zip(one.mean, one.std, strict=True)
    )


def _errors_between(one: Moments, other: Moments, order: tuple[int, ...]) -> float:
    """Largest difference of two channel means in standard errors."""
    sizes = []
    for i, j in enumerate(order):
        error = math.sqrt(one.between[i] ** 2 / one.samples + other.between[j] ** 2 / other.samples)
        sizes.append(abs(one.mean[i] - other.mean[j]) / max(error, 1e-9))
    return max(sizes)


def _exchanged(found: Moments) -> bool:
    """Whether images from 0 to 1 were normalised by ImageNet's deviation as mean and its mean as deviation."""
    if len(found.mean) != 3:
        return False
    mean, std = _IMAGENET
    return all(
        abs(low + std[i] / mean[i]) < 0.02 and abs(high - (1 - std[i]) / mean[i]) < 0.05
        for i, (low, high) in enumerate(zip(found.low, found.high, strict=True))
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3g}" for value in values[:4]) + (" ..." if len(values) > 4 else "")
