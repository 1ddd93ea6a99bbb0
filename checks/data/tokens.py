"""Token ids that do not fit their embedding."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.data_lines import DataLines
from doctor.evidence.program_run import ProgramRun
from doctor.evidence.token_log import TokenLog, TokenRecord
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from ._places import location


class TokenLimits(Limits):
    """Thresholds of DAT019 and DAT026."""

    common: float = 0.5  # share of one id among the tokens that are not padding
    rows: int = 50  # least size of a vocabulary for that
    used: int = 20
    large: int = 1000  # rows of a vocabulary of which so few are not used by chance
    doubled: float = 0.9  # of the sequences begin with one id twice
    filled: float = 0.25  # of the sequences end in a run of the filling id
    interior: float = 0.02  # of the tokens between others are the padding id
    min_sequences: int = 32


@check(
    "DAT019", "token-out-of-vocab", Severity.ERROR, faq="training/data/incorrect", faults=("token-out-of-vocab",)
)  # fmt: skip
def token_out_of_vocab(
    run: ProgramRun | None, tokens: TokenLog, lines: DataLines | None, limits: TokenLimits
) -> Iterator[Finding]:
    """Token ids lie outside the embedding, or most tokens are one and the same id.

    ## What it measures
    Smallest and largest id of every embedding against its rows; the share of the commonest id that is not padding; ids
    that stand twice at the beginning of nearly every sequence.
    ## Why it hurts
    An id beyond the last row ends the program (on a GPU with an assertion that names no line). A vocabulary that belongs
    to another tokenizer turns the text into unknown tokens.
    ## Example
    ```python
    embedding = nn.Embedding(len(vocabulary), 64)
    ids = [vocabulary.get(word, len(vocabulary)) for word in words]
    ```
    ## Use instead
    ```python
    embedding = nn.Embedding(len(vocabulary) + 1, 64)
    ids = [vocabulary.get(word, len(vocabulary)) for word in words]
    ```
    ## When it is right
    Small alphabets, padding, and categories where one value is common are silent.
    ## References
    torch.nn.Embedding (PyTorch 2.13).
    """
    crashed = run is not None and run.crash is not None and "index out of range in self" in run.crash.message
    for record in tokens.embeddings:
        if crashed and (record.high >= record.rows or record.low < 0):
            wrong = record.low if record.low < 0 else record.high
            yield Finding(
                message=f"the id {wrong} has no row of its own: ids run from {record.low} to {record.high}, rows of "
                f"{record.module or 'the embedding'} from 0 to {record.rows - 1}",
                location=location(record.created, run.crash.source if run and run.crash else None, record.source),
                measured={"id": Measure(value=wrong, threshold=record.rows - 1)},
                remedy=f"num_embeddings={record.high + 1}, or ids from 0 to {record.rows - 1}",
                demonstrated="the program crashes with IndexError",
            )
            return
    for record in tokens.embeddings:
        yield from _unknown(record, limits)
        yield from _doubled(record, limits)


@check(
    "DAT026", "padding-token", Severity.WARNING, faq="training/data/incorrect",
    faults=("padding-token", "padding-not-masked"),
)  # fmt: skip
def padding_token(tokens: TokenLog, lines: DataLines | None, limits: TokenLimits) -> Iterator[Finding]:
    """The id that fills the sequences is not the one that the embedding takes for padding.

    ## What it measures
    The id that ends the sequences in runs, against the embedding's `padding_idx`; and how often the padding id stands
    between other tokens, where it is a word.
    ## Why it hurts
    Padding is learnt as a word, or a word is never learnt: its row stays zero.
    ## Example
    ```python
    embedding = nn.Embedding(1000, 64, padding_idx=0)
    ids = pad_sequence(sentences, batch_first=True, padding_value=1)
    ```
    ## Use instead
    ```python
    embedding = nn.Embedding(1000, 64, padding_idx=0)
    ids = pad_sequence(sentences, batch_first=True, padding_value=0)
    ```
    ## When it is right
    Embeddings without padding_idx, with a mask elsewhere, are silent, and so are sequences that are not filled.
    ## References
    torch.nn.Embedding, padding_idx.
    """
    for record in tokens.embeddings:
        pad = record.padding_idx
        if pad is None or record.sequences < limits.min_sequences or record.used < 8:
            continue
        fill = record.fill[0] if record.fill else (pad, 0)
        own = dict(record.fill).get(pad, 0)
        share = fill[1] / record.sequences
        if fill[0] != pad and share > limits.filled and own < 0.02 * record.sequences:
            yield Finding(
                message=f"{share:.0%} of the sequences are filled with the id {fill[0]}, but padding_idx is {pad}",
                location=location(record.created, record.source),
                measured={"filled": Measure(value=share, threshold=limits.filled)},
                remedy=f"padding_idx={fill[0]}, or fill with {pad}",
                demonstrated="the ends of the sequences as the embedding got them",
            )
            return
        inner = record.interior / record.interior_of if record.interior_of else 0.0
        if inner > limits.interior:
            yield Finding(
                message=f"the padding id {pad} makes up {inner:.1%} of the tokens inside sequences: it is a word as well",
                location=location(record.created, record.source),
                measured={"interior": Measure(value=inner, threshold=limits.interior)},
                remedy="keep one id for padding alone: number the words from 1",
            )
            return


def _unknown(record: TokenRecord, limits: TokenLimits) -> Iterator[Finding]:
    filling = {number for number, count in (*record.fill, *record.left) if count > 0.1 * max(record.sequences, 1)}
    filling.add(record.padding_idx if record.padding_idx is not None else -1)
    most = next(((number, share) for number, share in record.most if number not in filling), None)
    padded = sum(share for number, share in record.most if number in filling)
    if most is None or record.rows < limits.rows or padded > 0.95:
        return
    if record.used < limits.used and record.rows < limits.large:
        return  # a small alphabet; of a large vocabulary that few words are suspicious themselves
    share = most[1] / (1 - padded)
    if record.sequences >= limits.min_sequences and record.length >= 4 and share > limits.common:
        yield Finding(
            severity=Severity.WARNING,
            message=f"{share:.0%} of the tokens have the id {most[0]}, of a vocabulary of {record.rows}: most are unknown",
            location=location(record.source, record.created),
            measured={"share": Measure(value=share, threshold=limits.common)},
            remedy="build the vocabulary from the training text, by the same tokenizer and the same spelling",
        )


def _doubled(record: TokenRecord, limits: TokenLimits) -> Iterator[Finding]:
    if not record.starts or record.sequences < limits.min_sequences or record.used < limits.used:
        return
    number, count = record.starts[0]
    if count > limits.doubled * record.sequences and number != record.padding_idx:
        yield Finding(
            severity=Severity.WARNING,
            message=f"{count} of {record.sequences} sequences begin with the id {number} twice",
            location=location(record.source, record.created),
            measured={"doubled": Measure(value=count / record.sequences, threshold=limits.doubled)},
            remedy="add the begin token once (add_special_tokens=False where it is in the text already)",
        )
