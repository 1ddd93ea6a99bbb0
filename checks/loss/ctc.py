"""Connectionist temporal classification: blanks, lengths, log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median, pstdev

from doctor.evidence.loss_arguments import CtcFacts, LossArguments, LossPlace
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .places import at, called


class CtcLimits(Limits):
    """Thresholds of LOS009."""

    min_log_sum: float = 0.1
    row_share: float = 0.9
    infeasible_share: float = 0.05  # a few clips that are too short are the data's, not the program's
    empty_share: float = 0.1  # of the samples without labels; some silence is recorded on purpose
    tail_share: float = 0.5  # samples whose labels end in three equal ones
    short: float = 0.72  # lengths and input padding disagree by at least this factor (half, a quarter, double ...)
    spread: float = 0.15  # relative, of that factor over the samples: a unit is the same for all
    min_samples: int = 8


@check("LOS009", "ctc-blank-or-lengths", Severity.ERROR, faq="training/loss/incorrect")
def ctc_blank_or_lengths(arguments: LossArguments, limits: CtcLimits) -> Iterator[Finding]:
    """The CTC loss is given no log-probabilities, labels that hold the blank, or lengths in the wrong unit.

    ## What it measures
    The arguments of `ctc_loss` while training: the rows' logsumexp (0 for log-probabilities); the blank among the
    labels within their lengths; input lengths above the number of frames, or off by one factor from the part of the
    model's input that is not padding; labels that end in runs of one id (padding counted as labels); samples without labels; samples with
    fewer frames than labels, whose loss is infinite and which `zero_infinity` hides.
    ## Why it hurts
    CTC sums over alignments of exactly these frames and labels: with a wrong length or blank it trains for another
    transcript, or for none, and the loss still falls.
    ## Example
    ```python
    log_probs = model(x).log_softmax(2).transpose(0, 1)
    loss = F.ctc_loss(log_probs, labels, frames, label_lengths, zero_infinity=True)
    ```
    ## Use instead
    ```python
    log_probs = model(x).log_softmax(2).transpose(0, 1)
    loss = F.ctc_loss(log_probs, labels, frames // model.stride, label_lengths)
    ```
    ## When it is right
    `zero_infinity` for the few clips that are too short; lengths equal to the padded length when the model was shown
    the padding as silence; a blank with any index, as long as no label has it.
    ## References
    `torch.nn.CTCLoss`; Graves et al. 2006, "Connectionist Temporal Classification".
    """
    for place in arguments.training("ctc_loss"):
        if place.ctc is not None:
            yield from _first(place, place.ctc, limits)


def _first(place: LossPlace, ctc: CtcFacts, limits: CtcLimits) -> Iterator[Finding]:
    outside = place.rows - place.normalised
    if place.rows and outside >= limits.row_share * place.rows and place.log_sum >= limits.min_log_sum:
        yield _finding(
            place,
            f"ctc_loss is given no log-probabilities: the frames' logsumexp is {place.log_sum:.3g} on average, not 0",
            "apply log_softmax over the classes before ctc_loss",
            logsumexp=Measure(value=place.log_sum, threshold=limits.min_log_sum),
        ).revised(faults=("ctc-blank-or-lengths", "wrong-output-activation"))
    elif ctc.samples >= limits.min_samples and ctc.empty > limits.empty_share * ctc.samples:
        yield _finding(
            place,
            f"{ctc.empty} of {ctc.samples} samples have a transcript without a single label",
            "look how the transcripts are read; leave out recordings of silence, or mark them on purpose",
            empty=Measure(value=ctc.empty / ctc.samples, threshold=limits.empty_share),
        ).revised(faults=("empty-transcripts",))
    elif ctc.too_long or ctc.wrong_count:
        what = "a number of lengths other than the batch size" if ctc.wrong_count else (
            f"input lengths above its {ctc.frames} frames in {ctc.too_long} of {ctc.samples} samples"
        )  # fmt: skip
        yield _finding(
            place,
            f"ctc_loss is given {what} (log_probs of shape {'x'.join(map(str, place.input_shape))}: time, batch, classes)",
            "divide the input lengths by the model's downsampling, and give log_probs as (time, batch, classes)",
            too_long=Measure(value=ctc.too_long, threshold=0),
        )
    elif ctc.blank_labels:
        yield _finding(
            place,
            f"{ctc.blank_labels} of {ctc.labels} labels are {ctc.blank}, the blank: such a label can never be emitted",
            "shift the labels so that none has the blank's index, or pass another blank; do not count padding as labels",
            blank_labels=Measure(value=ctc.blank_labels, threshold=0),
        ).revised(location=at(place.chosen), related=called(place))
    elif ctc.samples >= limits.min_samples and ctc.tail_samples >= limits.tail_share * ctc.samples:
        yield _finding(
            place,
            f"the labels of {ctc.tail_samples} of {ctc.samples} samples end in a run of one id: padding is counted as "
            "labels",
            "pass the lengths of the transcripts before padding as target_lengths",
            padded_labels=Measure(value=ctc.tail_samples / ctc.samples, threshold=limits.tail_share),
        )
    elif ctc.samples >= limits.min_samples and ctc.infeasible > limits.infeasible_share * ctc.samples:
        hidden = "zero_infinity makes their loss 0" if ctc.zero_infinity else "their loss is infinite"
        yield _finding(
            place,
            f"{ctc.infeasible} of {ctc.samples} samples have fewer frames than labels need: {hidden}",
            "give the model's own number of output frames as input_lengths, or downsample less",
            infeasible=Measure(value=ctc.infeasible / ctc.samples, threshold=limits.infeasible_share),
        )
    else:
        yield from _other_unit(place, ctc, limits)


def _other_unit(place: LossPlace, ctc: CtcFacts, limits: CtcLimits) -> Iterator[Finding]:
    if len(ctc.ratios) < limits.min_samples:
        return
    typical = median(ctc.ratios)
    if pstdev(ctc.ratios) > limits.spread * typical or limits.short < typical:
        return
    yield _finding(
        place,
        f"the input lengths cover {typical:.2f} of the frames that are no padding, in every sample: they are in another "
        "unit, and the rest of each recording is never read",
        "scale the lengths by the model's real downsampling",
        covered=Measure(value=typical, threshold=limits.short),
    )


def _finding(place: LossPlace, message: str, remedy: str, **measured: Measure) -> Finding:
    return Finding(
        message=message, location=at(place.source), measured=measured, remedy=remedy, demonstrated=message
    )  # fmt: skip
