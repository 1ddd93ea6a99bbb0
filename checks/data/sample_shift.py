"""Splits of samples that are not of one kind: other contents, other preparation, other order of the channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from doctor.evidence.image_files import ImageFiles
from doctor.evidence.sample_reference import SampleReference
from doctor.evidence.sample_shift import Moved, SampleShift, SplitShift
from doctor.evidence.samples import Floats, Ints, Samples
from doctor.evidence.tensor_samples import SplitMoments, TensorSamples
from doctor.findings import Effect, Finding, Measure, Severity, Verdict
from doctor.registry import Limits, look

from ._samples import listed, seen

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


class SampleShiftLimits(Limits):
    """Thresholds of DAT015 on samples."""

    distance: float = 0.5  # Kolmogorov-Smirnov, of some simple quantity
    error_distance: float = 0.65
    errors: float = 3.0  # the distance in its standard errors (a chance of 1e-7), less what many quantities give
    spoken_distance: float = 0.8  # the same for recordings and texts, whose speakers and sources differ on purpose
    loudness: float = 0.5  # powers of ten (10 dB) by which a split is louder
    auc: float = 0.85  # of a model that tells the splits apart


@look("DAT015")
def drifted_samples(
    samples: Samples, shift: SampleShift, tensors: TensorSamples | None, limits: SampleShiftLimits
) -> Iterator[Finding]:
    """A split whose samples are of another kind than the training samples."""
    for one in shift.splits:
        if tensors is not None and _rescaled(tensors, one.split, MixLimits()) is not None:
            continue  # another preparation says it all
        far = [m for m in one.moved if m.distance >= limits.distance and m.distance >= limits.errors * m.error]
        if not far:
            continue
        told = np.isnan(one.auc) or one.auc >= limits.auc
        strong = far[0].distance >= limits.error_distance and told
        darker = samples.kind == "image" and _same_factor(one)
        # Speakers and rooms differ between splits on purpose, and with them loudness and duration.
        level = Severity.ERROR if strong else Severity.WARNING if told else Severity.INFO
        quiet = far[0].quantity == "loudness" and abs(far[0].training - far[0].other) < limits.loudness
        if samples.kind in ("audio", "text") and (far[0].distance < limits.spoken_distance or quiet):
            level = Severity.INFO
        yield Finding(
            severity=level,
            faults=("distribution-drift", "preprocessing-mismatch") if darker else (),
            message=f"{one.split} is drawn from another distribution than training: {', '.join(map(_words, far[:4]))}"
            + ("" if np.isnan(one.auc) else f"; a model tells the splits apart with an AUC of {one.auc:.2f}"),
            measured={
                "distance": Measure(value=far[0].distance, threshold=limits.distance),
                **({} if np.isnan(one.auc) else {"auc": Measure(value=one.auc, threshold=limits.auc)}),
            },
            remedy="train on samples like those that the model will meet, or draw both splits from one source",
            **_proof(one),
        )


def _same_factor(one: SplitShift) -> bool:
    """Whether brightness and contrast changed by one factor: the pixels were scaled."""
    known = {moved.quantity: moved for moved in one.moved}
    pairs = [known[name] for name in ("brightness", "contrast") if name in known]
    if len(pairs) < 2 or any(moved.training <= 0 or moved.other <= 0 for moved in pairs):
        return False
    first, second = (moved.other / moved.training for moved in pairs)
    return bool(abs(np.log(first / second)) < 0.25 and abs(np.log(first)) > 0.5)


def _words(moved: Moved) -> str:
    return f"{moved.quantity} (median {moved.training:.3g} against {moved.other:.3g}, KS {moved.distance:.2f})"


def _proof(one: SplitShift) -> dict[str, Any]:
    note = f"over {one.training:,} and {one.samples:,} samples"
    effect = Effect(statistic="Kolmogorov-Smirnov distance", control=0.0, treated=one.moved[0].distance, note=note)
    return {"verdict": Verdict.CONFIRMED, "effect": effect, "demonstrated": note}


class MixLimits(Limits):
    """Thresholds of DAT016 and DAT024 on samples."""

    factor: float = 4.0  # between the deviations of two splits
    error_factor: float = 20.0
    shift: float = 2.5  # between their means, in deviations
    apart: float = 30.0  # between the scales of two groups of samples in one split (255 against 1)
    share: float = 0.003  # of the samples in the smaller group
    order_errors: float = 6.0  # standard errors by which channel means differ as they stand
    colour: float = 10.0  # distance of the channel means, of 255, below which order cannot be told
    swapped: float = 0.02  # of the images look like their class once red and blue are exchanged


@look("DAT016")
def prepared_otherwise(tensors: TensorSamples, limits: MixLimits) -> Iterator[Finding]:
    """Splits, or samples of one split, of another scale."""
    if tensors.ids or not tensors.moments:
        return
    samples = tensors.samples
    mixed = list(_mixed_scales(tensors, limits))
    yield from mixed
    for other in () if mixed else tensors.moments:
        found = _rescaled(tensors, other.split, limits)
        if found is None:
            continue
        one, factor, shift = found
        strong = max(factor, 1 / factor) >= limits.error_factor
        yield Finding(
            severity=Severity.ERROR if strong or samples.kind == "tensor" else Severity.WARNING,
            message=f"values run from {one.low:.4g} to {one.high:.4g} in {one.split} and from {other.low:.4g} to "
            f"{other.high:.4g} in {other.split}: deviations differ by a factor of {max(factor, 1 / factor):.3g}, means by "
            f"{shift:.2g} deviations",
            measured={"factor": Measure(value=factor, threshold=limits.factor),
                      "shift": Measure(value=shift, threshold=limits.shift)},
            remedy="prepare all splits by the same steps and the statistics of training",
            **seen("moments of all samples"),
        )  # fmt: skip
        return


def _rescaled(tensors: TensorSamples, split: str, limits: MixLimits) -> tuple[SplitMoments, float, float] | None:
    by_name = {moments.split: moments for moments in tensors.moments}
    one, other = by_name.get("train"), by_name.get(split)
    if one is None or other is None or one is other or min(one.samples, other.samples) < 16:
        return None
    pairs = [
        (a, b, m, n) for a, b, m, n in zip(one.std, other.std, one.mean, other.mean, strict=False) if a > 0 and b > 0
    ]
    if len(pairs) < 0.5 * len(one.std) or not pairs:
        return None
    factor = float(np.median([b / a for a, b, _, _ in pairs]))
    shift = float(np.median([abs(n - m) / max(a, b) for a, b, m, n in pairs]))
    return (one, factor, shift) if max(factor, 1 / factor) >= limits.factor or shift >= limits.shift else None


def _mixed_scales(tensors: TensorSamples, limits: MixLimits) -> Iterator[Finding]:
    """Pictures of 0 to 1 among pictures of 0 to 255."""
    if not tensors.image:
        return
    samples = tensors.samples
    size = np.maximum(np.abs(tensors.high), np.abs(tensors.low))
    known = np.flatnonzero(size > 0)
    scale = np.log(size[known])
    order = np.sort(scale)
    gaps = np.diff(order)
    if not len(gaps) or gaps.max() < np.log(limits.apart) / 2:
        return
    border = order[gaps.argmax()] + gaps.max() / 2
    below, above = known[scale < border], known[scale >= border]
    odd, rest = (below, above) if len(below) < len(above) else (above, below)
    if any(np.array_equal(odd, known[samples.split[known] == code]) for code in range(len(samples.splits))):
        return  # a whole split
    between = abs(float(np.median(np.log(size[odd])) - np.median(np.log(size[rest]))))
    if between < np.log(limits.apart) or len(odd) < max(2, limits.share * samples.count):
        return
    yield Finding(
        severity=Severity.ERROR,
        message=f"{len(odd):,} of {samples.count:,} samples have values up to {np.median(size[odd]):.3g}, the others up to "
        f"{np.median(size[rest]):.3g}",
        measured={"samples": Measure(value=len(odd)),
                  "factor": Measure(value=float(np.exp(between)), threshold=limits.apart)},
        rows=listed(samples, odd),
        remedy="divide by 255 once, for all samples, at one place",
        **seen("largest value of each sample"),
    )  # fmt: skip


@look("DAT024")
def swapped_channels(
    samples: Samples,
    images: ImageFiles | None,
    tensors: TensorSamples | None,
    reference: SampleReference | None,
    limits: MixLimits,
) -> Iterator[Finding]:
    """Images whose red and blue are exchanged: a split, or some among others."""
    means = _channel_means(samples, images, tensors)
    if means is None:
        return
    known = np.flatnonzero(np.isfinite(means[:, 0]))
    label = samples.label if samples.classified else np.zeros(samples.count, np.int64)
    own = samples.split[samples.training[0]] if len(samples.training) else 0
    for code, name in enumerate(samples.splits):
        if code == own:
            continue
        one, other = (known[samples.split[known] == part] for part in (own, code))
        straight, turned, weight = _between(means, label, one, other)
        if (
            weight
            and straight > limits.order_errors
            and turned < 0.5 * straight
            and _apart(means[one]) > limits.colour / 255
        ):
            yield Finding(
                severity=Severity.ERROR,
                message=f"channel means of {name} are those of training in reverse order: {_numbers(means[one])} in "
                f"{samples.splits[own]}, {_numbers(means[other])} in {name} (RGB against BGR)",
                measured={"errors": Measure(value=straight, threshold=limits.order_errors),
                          "reversed": Measure(value=turned)},
                remedy="read both in one order: image[..., ::-1] or cv2.COLOR_BGR2RGB",
                **seen(f"in reverse order the means agree within {turned:.1f} standard errors"),
            )  # fmt: skip
            return
    rows = _nearer_turned(images, label, np.union1d(_turned(means, label, known), _better_turned(reference)))
    if len(rows) >= max(5, limits.swapped * len(known)):
        yield Finding(
            severity=Severity.ERROR,
            message=f"{len(rows):,} of {len(known):,} images have red and blue exchanged: so turned they look like the others "
            f"of their class",
            measured={"share": Measure(value=len(rows) / len(known), threshold=limits.swapped)},
            rows=listed(samples, rows),
            remedy="read all images by one library, in one order of channels",
            **seen("channel means of each image against those of its class"),
        )


def _channel_means(samples: Samples, images: ImageFiles | None, tensors: TensorSamples | None) -> Floats | None:
    """Means of three channels a sample, on a scale of about 1; NaN where it has none. (samples, 3)."""
    if images is not None:
        means = np.where((images.channels >= 3)[:, None] & (images.saturation > 3)[:, None], images.mean / 255, np.nan)
        return means.astype(np.float32)
    if tensors is None or not tensors.image or not tensors.moments or len(tensors.moments[0].mean) != 3:
        return None
    rows = np.full((samples.count, 3), np.nan, np.float32)
    values = samples.features.reshape(len(samples.features), 3, -1).mean(2)
    scale = float(np.mean(tensors.moments[0].std)) * 4 + 1e-9
    rows[samples.featured] = values / scale
    return rows


def _between(means: Floats, label: Ints, one: Ints, other: Ints) -> tuple[float, float, int]:
    """Standard errors between two splits' channel means within classes: as they stand, and reversed."""
    straight = turned = 0.0
    weight = 0
    for value in np.unique(label[other]):
        a, b = means[one[label[one] == value]], means[other[label[other] == value]]
        if len(a) < 8 or len(b) < 8:
            continue
        error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b)) + 1e-4
        straight += float((((a.mean(0) - b.mean(0)) / error) ** 2)[[0, 2]].sum())
        turned += float((((a.mean(0) - b.mean(0)[::-1]) / np.maximum(error, error[::-1])) ** 2)[[0, 2]].sum())
        weight += 2
    return ((straight / weight) ** 0.5, (turned / weight) ** 0.5, weight) if weight else (0.0, 0.0, 0)


def _apart(means: Floats) -> float:
    """How far red is from blue, on average over the images."""
    return float(np.abs(means[:, 0] - means[:, 2]).mean()) if len(means) else 0.0


def _turned(means: Floats, label: Ints, known: Ints) -> Ints:
    """Images that are far from their class as they stand, and in its midst with red and blue exchanged."""
    found: list[int] = []
    for value in np.unique(label[known]):
        rows = known[label[known] == value]
        if len(rows) < 20:
            continue
        tint = means[rows, 0] - means[rows, 2]
        centre = float(np.median(tint))
        spread = 1.4826 * float(np.median(np.abs(tint - centre))) + 0.01
        if abs(centre) < 4 * spread:
            continue  # grey or many-coloured classes: an exchange leaves them in their own midst
        out = np.abs(tint - centre) > 5 * spread
        turned = out & (np.abs(-tint - centre) < 3 * spread)
        if turned.sum() >= 0.7 * out.sum():  # else images of this class are simply of many colours
            found += rows[turned].tolist()
    return np.array(sorted(found), np.int64)


def _better_turned(reference: SampleReference | None) -> Ints:
    """Images that a reference model takes for another class as they stand, and for theirs with red and blue exchanged.

    None, unless that mends most of its errors: exchanging the colours of a wrongly labelled image mends nothing.
    """
    if reference is None or reference.turned is None or reference.training.balanced < 0.6:
        return np.zeros(0, np.int64)
    told = reference.training
    places = np.arange(len(told.rows))
    straight, turned = told.probability[places, told.label], reference.turned[places, told.label]
    mended = ~told.right & (turned > 0.5)
    if mended.sum() < max(5, 0.6 * (~told.right).sum()):
        return np.zeros(0, np.int64)
    better: Ints = told.rows[(turned > straight + 0.2) & (reference.turned.argmax(1) == told.label)]
    return better


def _nearer_turned(images: ImageFiles | None, label: Ints, rows: Ints) -> Ints:
    """Those whose colours, place by place, come nearer to their class's by the exchange: a classifier may also change its
    mind because an image has become strange.
    """
    if images is None or not len(rows):
        return rows
    colours = images.thumbs.reshape(-1, 4, 4, 4, 4, 3).mean((2, 4))  # 4 x 4 places
    kept = []
    for row in rows:
        own = np.median(colours[(label == label[row]) & (images.channels > 0)], 0)
        straight, turned = (float(np.abs(c - own).mean()) for c in (colours[row], colours[row][..., ::-1]))
        if turned < 0.8 * straight:
            kept.append(row)
    return np.array(kept, np.int64)


def _numbers(means: Floats) -> str:
    return ", ".join(f"{value:.2f}" for value in means.mean(0))
