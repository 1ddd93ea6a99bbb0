"""How targets of a sequence loss lie against the tokens that the model reads."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source, sources
from doctor.probes import probe


@dataclass(frozen=True)
class PaddingFacts:
    """Padded positions of the input (a token in runs of different lengths at the ends of rows, and nowhere else).

    Of `positions` targets in all, `padded` lie where the input is padding; `constant` of these are the id `target`,
    `counted` are not ignored by the loss, `with_gradient` sent a gradient back; `gradient_share` is their share of the
    gradient on the scores. `declared` when an embedding's `padding_idx` or a mask names the same padding,
    `ended` when one sign stands before it in nearly every row.
    """

    pad: int
    target: int
    positions: int
    padded: int
    constant: int
    counted: int
    with_gradient: int
    gradient_share: float
    declared: bool = False
    ended: bool = True


@dataclass(frozen=True)
class AlignedPlace:
    """One place of a loss over the positions of a sequence.

    `match(lag)` is the share of the targets (padding and ignored ones left out) that equal the input token `lag`
    positions ahead of the one whose scores they are held against: 1 for next-token prediction. `causal` says whether
    scores depend on no later token (only asked where targets are not shifted). `inside` when a library computes the
    loss within the model's forward.
    """

    source: Source | None
    lags: tuple[int, ...]
    matches: tuple[int, ...]
    positions: int
    distinct: int
    inside: bool = False
    causal: bool | None = None
    ignore_index: int = -100
    padding: PaddingFacts | None = None

    def match(self, lag: int) -> float:
        """Share of the targets at this lag."""
        if not self.positions or lag not in self.lags:
            return 0.0
        return self.matches[self.lags.index(lag)] / self.positions


@dataclass(frozen=True)
class TokenAlignment(Evidence):
    """All such places. `regressed` are the lines on which a loss over numbers is given the next token ids."""

    places: tuple[AlignedPlace, ...] = ()
    regressed: tuple[Source, ...] = ()


@probe
def token_alignment(recording: Recording) -> TokenAlignment:
    """Read the places."""
    places = []
    regressed = tuple(sources([event["line"] for event in recording.of("token-regression")]))
    if not regressed:
        recording.some("token-alignment", "no loss over the positions of a token sequence was seen")
    for event in recording.of("token-alignment"):
        tail = event["tail"]
        padding = None
        if tail is not None and tail["backwards"]:
            padding = PaddingFacts(
                gradient_share=tail["gradient"] / max(1e-12, tail["whole_gradient"]),
                **{name: tail[name] for name in PaddingFacts.__dataclass_fields__ if name in tail},
            )
        places.append(
            AlignedPlace(
                source=source(event["line"]),
                lags=tuple(event["lags"]),
                matches=tuple(event["matches"]),
                positions=event["positions"],
                distinct=event["distinct"],
                inside=event["inside"],
                causal=event["causal"],
                ignore_index=event["ignore_index"],
                padding=padding,
            )
        )
    return TokenAlignment(tuple(places), regressed)
