"""Losses that do not fit what they are given."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.loss_arguments import LossArguments, LossPlace
from doctor.evidence.token_alignment import TokenAlignment
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .places import at, called

_REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
_SIGNED = ("soft_margin_loss", "hinge_embedding_loss", "cosine_embedding_loss", "margin_ranking_loss")


class WrongLossLimits(Limits):
    """Thresholds of LOS005."""

    # A linear model that reads the targets as names of classes is right this often, and this much more often than one
    # that reads them as numbers: ratings, counts and ages are the other way round.
    nominal_accuracy: float = 0.6
    nominal_gain: float = 0.25
    row_share: float = 0.9
    multi_hot_share: float = 0.2  # of the rows have several labels, or none
    multi_hot_least: float = 0.02  # of the rows have several
    positive_share: float = 0.1  # of the elements given as log-probabilities, which are never positive


@check("LOS005", "wrong-loss", Severity.ERROR, faq="training/loss/incorrect")
def wrong_loss(arguments: LossArguments, tokens: TokenAlignment | None, limits: WrongLossLimits) -> Iterator[Finding]:
    """The loss function does not fit its prediction or its target.

    ## What it measures
    What each loss is given while training: cross-entropy over one class (always 0); class names as numbers in a
    regression (a linear model on the program's own samples is at least `nominal_gain` more often right when it reads
    them as names); a regression on the next token ids of the input; targets outside 0..1 in a binary cross-entropy; several labels a row in a softmax cross-entropy;
    positive or normalised values as log-probabilities in `kl_div`; targets 0 and 1 where -1 and 1 are wanted.
    ## Why it hurts
    The minimum of such a loss is not the solution of the task, or there is no minimum at all.
    ## Example
    ```python
    head = nn.Linear(64, 1)
    loss = F.mse_loss(head(features).squeeze(1), label.float())
    ```
    ## Use instead
    ```python
    head = nn.Linear(64, number_of_classes)
    loss = F.cross_entropy(head(features), label)
    ```
    ## When it is right
    Ratings, counts, ages and other numbers that are whole by nature; one-hot targets under a squared error; least
    squares adversarial losses; binary cross-entropy on each of several classes; soft targets.
    ## References
    PyTorch documentation of the loss functions, "Shape" and "Target".
    """
    for line in tokens.regressed if tokens else ():
        yield Finding(
            message="a loss over numbers is given the next token ids of the input: ids are names, and their distance means "
            "nothing",
            location=at(line),
            remedy="use cross_entropy on the scores of all tokens, with the ids as targets",
            demonstrated="the targets are the input's token ids one position later",
        )
        return
    for place in arguments.places:
        if place.training:
            yield from _first(place, limits)


def _first(place: LossPlace, limits: WrongLossLimits) -> Iterator[Finding]:
    for look in (_single_class, _names_as_numbers, _outside_unit, _several_labels, _no_logs, _unsigned):
        finding = look(place, limits)
        if finding is not None:
            yield finding
            return


def _finding(place: LossPlace, message: str, remedy: str, fact: str, **measured: Measure) -> Finding:
    return Finding(
        message=message, location=at(place.source), measured=measured, remedy=remedy, demonstrated=fact
    )  # fmt: skip


def _choice(place: LossPlace, finding: Finding) -> Finding:
    """The finding where the cure is another criterion: at the line that constructs it."""
    return finding.revised(location=at(place.chosen), related=called(place))


def _single_class(place: LossPlace, limits: WrongLossLimits) -> Finding | None:
    if place.function != "cross_entropy" or place.outputs != (1,) or len(place.input_shape) < 2:
        return None
    if place.input_shape[0] < 2:
        return None  # contrastive losses of a batch of one
    found = _finding(
        place,
        f"cross_entropy over one class (predictions of shape {_shape(place.input_shape)}): softmax of a single score is "
        "always 1, so the loss is 0 whatever the model says",
        "use binary_cross_entropy_with_logits for one score a sample, or give the model one output a class",
        "a softmax over one class is constant",
        classes=Measure(value=1, threshold=2),
    )
    return _choice(place, found)


def _names_as_numbers(place: LossPlace, limits: WrongLossLimits) -> Finding | None:
    if place.function not in _REGRESSION or place.nominal is None or not place.whole_targets:
        return None
    by_name, by_number, classes = place.nominal
    if by_name < limits.nominal_accuracy or by_name - by_number < limits.nominal_gain:
        return None
    found = _finding(
        place,
        f"{place.function} on class ids: a linear model on these samples is right for {by_name:.0%} when it reads the "
        f"{classes} targets as names and for {by_number:.0%} when it reads them as numbers",
        f"give the model {classes} outputs and use cross_entropy on the class ids",
        f"held-out accuracy {by_name:.2f} as classes, {by_number:.2f} as numbers",
        accuracy_as_classes=Measure(value=by_name, threshold=limits.nominal_accuracy),
        accuracy_as_numbers=Measure(value=by_number, threshold=by_name - limits.nominal_gain),
    )
    return _choice(place, found)


def _outside_unit(place: LossPlace, limits: WrongLossLimits) -> Finding | None:
    low, high = place.target_minimum, place.target_maximum
    if place.function not in _BINARY or low is None or high is None or (low >= -1e-3 and high <= 1 + 1e-3):
        return None
    return _finding(
        place,
        f"{place.function} with targets from {low:.3g} to {high:.3g}: outside 0..1 the loss has no minimum",
        "use cross_entropy for class ids, a regression loss for numbers, or bring the targets to 0..1",
        f"targets reach from {low:.3g} to {high:.3g}",
        target_minimum=Measure(value=low, threshold=0),
        target_maximum=Measure(value=high, threshold=1),
    )


def _several_labels(place: LossPlace, limits: WrongLossLimits) -> Finding | None:
    if place.function != "cross_entropy" or not place.target_rows or place.ctc is not None:
        return None
    share = place.multi_hot_rows / place.target_rows
    # rows of zeros alone are padding; beside rows of several ones they are samples without any label
    odd = 1 - place.one_hot_rows / place.target_rows if share >= limits.multi_hot_least else 0.0
    if max(share, odd) < limits.multi_hot_share or not place.whole_targets:
        return None
    found = _finding(
        place,
        f"cross_entropy (softmax over {place.input_shape[1]} classes) with several labels in {share:.0%} of the rows, "
        f"none or several in {max(share, odd):.0%}: "
        "the classes of a sample compete with each other",
        "use binary_cross_entropy_with_logits, one yes or no a class",
        f"{place.multi_hot_rows} of {place.target_rows} target rows hold several ones",
        rows_without_one_label=Measure(value=max(share, odd), threshold=limits.multi_hot_share),
    )
    return _choice(place, found)


def _no_logs(place: LossPlace, limits: WrongLossLimits) -> Finding | None:
    if place.function != "kl_div" or not place.rows:
        return None
    logs = bool(place.options.get("log_target", False))
    negative = place.target_minimum is not None and place.target_minimum < -1e-3
    probable = place.probabilities >= limits.row_share * place.rows
    if probable or place.positive_share >= limits.positive_share:
        what = "probabilities" if probable else "raw scores"
        message = f"kl_div is given {what} as its first argument, which has to hold log-probabilities"
        remedy = "apply log_softmax (or log) to the first argument of kl_div"
    elif negative and not logs:
        message = "kl_div is given log-probabilities or raw scores as its target without log_target=True"
        remedy = "give probabilities as the target (softmax), or pass log_target=True"
    else:
        return None
    return _finding(
        place, message, remedy, f"kl_div's arguments hold values up to {place.maximum:.3g}",
        positive_share=Measure(value=place.positive_share, threshold=limits.positive_share),
    )  # fmt: skip


def _unsigned(place: LossPlace, limits: WrongLossLimits) -> Finding | None:
    if place.function not in _SIGNED or not place.whole_targets:
        return None
    if place.target_minimum != 0 or place.target_maximum not in (0, 1):
        return None
    return _finding(
        place,
        f"{place.function} with targets 0 and 1: it wants -1 and 1, and a target of 0 teaches nothing or the wrong thing",
        "map the targets: 2 * y - 1",
        "no target is -1",
        target_minimum=Measure(value=0, threshold=-1),
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
