"""Token ids on their way into embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class StrangeToken:
    """The id that evaluated sequences have most above those of training: `training` and `evaluation` are its shares of the
    tokens that are no padding, `runs` how often it follows itself. `before` and `after` count the sequences.
    """

    number: int
    training: float
    evaluation: float
    runs: float
    before: int
    after: int


@dataclass(frozen=True)
class TokenRecord:
    """The ids of one embedding of `rows` rows.

    `most` are the commonest ids with their shares of all `tokens`, `used` counts the different ones. Of `sequences`
    sequences, `fill` lists the ids that end them in a run of at least two (id, sequences) and `left` those that begin
    them in a run of three; `filled` counts the tokens of the runs at the ends. `interior` counts the padding id between
    other tokens, of `interior_of`. `starts` lists the ids that stand twice at the beginning.
    """

    rows: int
    low: int
    high: int
    module: str = ""
    root: int = 0
    padding_idx: int | None = None
    used: int = 0
    tokens: int = 0
    most: tuple[tuple[int, float], ...] = ()
    sequences: int = 0
    length: int = 0
    fill: tuple[tuple[int, int], ...] = ()
    left: tuple[tuple[int, int], ...] = ()
    filled: int = 0
    interior: int = 0
    interior_of: int = 0
    doubled: int = 0
    starts: tuple[tuple[int, int], ...] = ()
    created: Source | None = None
    source: Source | None = None
    strange: StrangeToken | None = None


@dataclass(frozen=True)
class TokenLog(Evidence):
    """All embeddings."""

    embeddings: tuple[TokenRecord, ...] = ()


@probe
def token_log(recording: Recording) -> TokenLog:
    """Read them."""
    plain = (
        "rows", "low", "high", "module", "root", "padding_idx", "used", "tokens", "sequences", "length", "filled",
        "interior", "interior_of", "doubled",
    )  # fmt: skip
    return TokenLog(
        tuple(
            TokenRecord(
                created=source(event["created"]),
                source=source(event["line"]),
                most=tuple((int(number), float(share)) for number, share in event["most"]),
                fill=_counted(event["fill"]),
                left=_counted(event["left"]),
                starts=_counted(event["starts"]),
                strange=_strange(event.get("strange")),
                **{name: event[name] for name in plain},
            )
            for event in recording.some("tokens", "no embedding was looked up")
        )
    )


def _counted(pairs: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(number), int(count)) for number, count in pairs)


def _strange(known: list[float] | None) -> StrangeToken | None:
    if not known:
        return None
    number, training, evaluation, runs, before, after = known
    return StrangeToken(int(number), training, evaluation, runs, int(before), int(after))
