"""Targets of language models: shift and padding."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLines
from doctor.evidence.loss_arguments import LossArguments
from doctor.evidence.op_tape import OpTape
from doctor.evidence.token_alignment import AlignedPlace, TokenAlignment
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .places import at, called, related

_CUTS = ("slice", "roll", "clone", "select", "index", "copy", "constant_pad_nd")
_CARRIERS = frozenset(
    {"view", "_unsafe_view", "reshape", "stack", "cat", "_to_copy", "clone", "alias", "contiguous", "transpose", "t",
     "permute", "detach", "copy", "_reshape_alias", "lift_fresh", "squeeze", "unsqueeze", "index"}
)  # fmt: skip


class PaddingLimits(Limits):
    """Thresholds of LOS007."""

    padded_share: float = 0.05  # of all positions
    # Without a sign that the token is meant as padding (an end token that is repeated on purpose) more is asked for.
    undeclared_share: float = 0.25
    constant_share: float = 0.97
    gradient_positions: float = 0.5  # of the padded positions send a gradient back: no mask behind the loss


@check(
    "LOS007",
    "padding-not-masked",
    Severity.ERROR,
    faq=("training/loss/incorrect", "training/data/incorrect"),
    faults=("padding-not-masked", "padding-token"),
)
def padding_not_masked(
    tokens: TokenAlignment, arguments: LossArguments | None, lines: DataLines | None, limits: PaddingLimits
) -> Iterator[Finding]:
    """The loss counts the padding behind short sequences.

    ## What it measures
    The padding of the model's input (an id in runs of different lengths at the ends of rows, and nowhere else), and the
    gradient that the scores at these positions get back. An error where the program itself says which token is padding
    (`padding_idx`, an attention mask, an `ignore_index`), a warning where only the data show it.
    ## Why it hurts
    Predicting padding after padding is easy: the average loss looks good, gradients are spent on it, and a model learns
    to answer with padding.
    ## Example
    ```python
    loss = F.cross_entropy(logits.transpose(1, 2), targets)
    ```
    ## Use instead
    ```python
    loss = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad_id)
    ```
    ## When it is right
    Targets of -100, a class weight of 0, a loss without reduction that is masked by hand: no gradient comes back.
    Sequences packed without padding. Fixed-length outputs of which the fill is a part are told as info.
    ## References
    `torch.nn.CrossEntropyLoss`, `ignore_index`.
    """
    for place in tokens.places:
        facts = place.padding
        if facts is None or facts.padded < limits.padded_share * facts.positions:
            continue
        if facts.constant < limits.constant_share * facts.padded:
            continue
        if facts.with_gradient < limits.gradient_positions * facts.padded:
            continue
        share = facts.padded / facts.positions
        made = lines.labels() if lines is not None and place.inside else None
        chosen = next((p for p in (arguments.places if arguments else ()) if p.source == place.source), None)
        declared = facts.declared or place.ignore_index != -100
        rebuilt = place.match(0) >= limits.constant_share and not place.causal
        copied = max((place.match(lag) for lag in place.lags), default=0.0) >= limits.constant_share
        # Texts that nothing but their fill ends, and answers of one length that the fill is a part of.
        rebuilt = rebuilt or (not facts.ended and (copied or place.positions == 0))
        ignored = f", while ignore_index is {place.ignore_index}" if place.ignore_index != -100 else ""
        yield Finding(
            message=f"{share:.0%} of the positions in the loss are padding (input id {facts.pad}, target id "
            f"{facts.target}){ignored}; {facts.gradient_share:.0%} of the gradient comes from them",
            location=at(made or (chosen.chosen if chosen else place.source)),
            related=related(place.source, "the loss is computed from here")
            if made
            else called(chosen)
            if chosen
            else (),
            severity=_severity(share, declared, rebuilt, limits),
            measured={
                "padded_share": Measure(value=share, threshold=limits.padded_share),
                "gradient_share": Measure(value=facts.gradient_share, threshold=0.0),
            },
            remedy=f"pass ignore_index={facts.target} (or set the padded targets to -100)",
            demonstrated=f"{facts.with_gradient} of {facts.padded} padded positions sent a gradient back",
        )
        return


def _severity(share: float, declared: bool, rebuilt: bool, limits: PaddingLimits) -> Severity:
    if declared:
        return Severity.ERROR
    # An autoencoder of rows of one length has to give back their fill, too.
    return Severity.WARNING if share >= limits.undeclared_share and not rebuilt else Severity.INFO


class ShiftLimits(Limits):
    """Thresholds of LOS008."""

    match: float = 0.98
    other: float = 0.6  # text that repeats itself matches at several lags
    min_positions: int = 64
    min_distinct: int = 5


@check("LOS008", "label-shift", Severity.ERROR, faq=("training/loss/incorrect", "training/data/incorrect"))
def label_shift(
    tokens: TokenAlignment, tape: OpTape | None, lines: DataLines | None, limits: ShiftLimits
) -> Iterator[Finding]:
    """The targets of a language model are shifted by none or by two positions instead of one.

    ## What it measures
    The share of the targets that equal the input token at the same position, one and two ahead of the scores that they
    are held against. Fires at (almost) all for the position itself or an earlier one, when the model is causal (later
    tokens are changed in a copy of it: earlier scores stay), and at (almost) all for two ahead.
    ## Why it hurts
    Unshifted, the model copies what it reads: the loss falls to 0 and it can predict nothing. Shifted twice (by hand,
    and again inside the library's model) it learns to skip every other token.
    ## Example
    ```python
    labels = ids[:, 1:]
    loss = model(input_ids=ids[:, :-1], labels=labels).loss
    ```
    ## Use instead
    ```python
    labels = ids.clone()
    loss = model(input_ids=ids, labels=labels).loss
    ```
    ## When it is right
    Models that read both ways: token classification, masked language models, autoencoders. Several heads that predict
    one, two and more tokens ahead.
    ## References
    transformers documentation, `labels`: "the labels are shifted inside the model".
    """
    if any(place.match(1) >= limits.match and place.positions for place in tokens.places):
        return
    for place in tokens.places:
        if place.positions < limits.min_positions or place.distinct < limits.min_distinct:
            continue
        lag = max(place.lags, key=place.match)
        if place.match(lag) < limits.match or place.match(1) > limits.other or lag in (1, 3):
            continue
        if lag <= 0 and not place.causal:
            continue
        made = lines.labels() if lines is not None and place.inside else None
        yield _shifted(place, lag, _cut(place, tape) or made)
        return


def _shifted(place: AlignedPlace, lag: int, cut: Source | None) -> Finding:
    if lag <= 0:
        where = "at the same position" if lag == 0 else "before it"
        what = (
            f"{place.match(lag):.1%} of the targets are the input token {where}: the model is asked for what it reads"
        )
        remedy = "hold the scores at position t against the token at t + 1: logits[:, :-1] against ids[:, 1:]"
    else:
        twice = " (shifted by hand, and again inside the model)" if place.inside else ""
        what = f"{place.match(lag):.1%} of the targets are the token two ahead{twice}, none the next one"
        remedy = (
            "pass labels=input_ids and let the model shift them" if place.inside else "shift the targets by one only"
        )
    return Finding(
        message=what,
        location=at(cut or place.source),
        measured={"match": Measure(value=place.match(lag)), "match_next_token": Measure(value=place.match(1))},
        remedy=remedy,
        demonstrated=f"{place.match(lag):.1%} of {place.positions} targets, compared with the input ids",
        related=related(place.source, "the loss is computed from here") if cut and cut != place.source else (),
    )


def _cut(place: AlignedPlace, tape: OpTape | None) -> Source | None:
    """The user's line on which the targets were cut out of the tokens, where the tape shows it."""
    for taped in reversed(tape.tapes) if tape else ():
        for loss in taped.named("nll_loss_forward", "nll_loss2d_forward"):
            note = loss.inputs[1] if len(loss.inputs) > 1 else None
            for _ in range(24):
                op = taped.producer(note.id) if note else None
                if op is None:
                    break
                if op.name in _CUTS and op.source and op.source != place.source and op.name != "clone":
                    return op.source
                if op.name not in _CARRIERS and op.name not in _CUTS:
                    break
                note = op.inputs[0] if op.inputs else None
    return None
