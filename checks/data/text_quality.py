"""Texts that are damaged, empty or endless."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from doctor.evidence.audio_clips import AudioClips
from doctor.evidence.text_records import TextRecords, by_reason
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check, look
from doctor.samples.wording import damage

from ._samples import listed, listed_places, seen

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


class TextLimits(Limits):
    """Thresholds of DAT020."""

    damaged: float = 0.002  # of the records
    one_answer: float = 0.1  # of the free answers are one and the same
    answer_letters: int = 20  # shorter answers (yes, no, numbers) repeat by themselves
    endless: float = 0.01


@check(
    "DAT020", "text-quality", Severity.ERROR, faq=("training/data/incorrect", "training/data/missing"),
    faults=("text-encoding", "missing-values", "malformed-records"),
)  # fmt: skip
def text_quality(texts: TextRecords, limits: TextLimits) -> Iterator[Finding]:
    """Texts were read in a wrong encoding, are empty, or say the same again and again.

    ## What it measures
    Lines whose bytes are no UTF-8; characters that are UTF-8 read as Windows-1252 or Latin-1 (undoing it gives one letter),
    replacement characters and control characters; records without a text or with an empty answer; answers that pack to
    less than a twelfth of their length; one long answer to a tenth of all prompts.
    ## Why it hurts
    The model learns the damage: it writes it, and does not know the words as a user writes them.
    ## Example
    ```python
    lines = open("train.jsonl", encoding="latin-1").readlines()
    ```
    ## Use instead
    ```python
    lines = open("train.jsonl", encoding="utf-8").readlines()
    ```
    ## When it is right
    Accents, quotation marks, emoji and other alphabets are silent, and so are system prompts that repeat.
    ## References
    Speer, ftfy: fixes text for you (2019).
    """
    damaged = {place[:3]: place for place in (*texts.damaged, *texts.undecodable)}
    if damaged:
        reasons = by_reason(damaged.values())
        words = ", ".join(f"{len(places)} {reason.partition(' (')[0]}" for reason, places in reasons[:4])
        share = len(damaged) / texts.lines
        yield Finding(
            severity=Severity.ERROR if share >= limits.damaged and len(damaged) > 1 else Severity.WARNING,
            faults=("text-encoding",),
            message=f"{len(damaged):,} of {texts.lines:,} records are damaged: {words}",
            measured={"records": Measure(value=len(damaged)), "share": Measure(value=share, threshold=limits.damaged)},
            rows=listed_places(damaged.values(), texts.lines),
            remedy="read the source as UTF-8 (or as what it is) once, and write UTF-8",
            **seen("undoing the wrong decoding gives letters"),
        )
    yield from _empty(texts)
    endless = texts.endless
    if endless:
        share = len(endless) / texts.lines
        yield Finding(
            severity=Severity.WARNING if share >= limits.endless else Severity.INFO,
            faults=("text-quality",),
            message=f"{len(endless):,} of {texts.lines:,} records say the same again and again",
            measured={"share": Measure(value=share, threshold=limits.endless)},
            rows=listed_places(endless, texts.lines),
            remedy="leave them out: the model learns to repeat itself",
        )
    yield from _one_answer(texts, limits)


def _empty(texts: TextRecords) -> Iterator[Finding]:
    samples = texts.samples
    odd = {place[1:3] for place in (*texts.wrong_roles, *texts.open_ended)}
    for rows, what in (
        (texts.empty_answers, "assistant's turn" if texts.form == "chat" else texts.answer_key or "answer"),
        (texts.empty_texts, "input"),
    ):
        rows = np.array([row for row in rows if (samples.names[row], int(samples.row[row])) not in odd], np.int64)
        if len(rows):
            yield Finding(
                faults=("missing-values", "malformed-records", "text-quality"),
                message=f"{len(rows):,} of {texts.lines:,} records have an empty {what}",
                measured={"records": Measure(value=len(rows), threshold=0)},
                rows=listed(samples, rows, of=texts.lines),
                remedy="fill them or leave them out: the model learns to end at once",
                **seen("nothing but blanks"),
            )


def _one_answer(texts: TextRecords, limits: TextLimits) -> Iterator[Finding]:
    samples = texts.samples
    if samples.classified or texts.form not in ("chat", "answer"):
        return
    known = samples.answer[(samples.answer >= 0) & (texts.answer_letters >= limits.answer_letters)]
    if len(known) < 50:
        return
    values, counts = np.unique(known, return_counts=True)
    share = counts.max() / samples.count
    if share >= limits.one_answer and counts.max() > 1:
        rows = np.flatnonzero(samples.answer == values[counts.argmax()])
        prompts = len(np.unique(samples.content[rows]))
        if prompts < 0.5 * len(rows):
            return  # whole records repeat: duplicate-samples tells it
        yield Finding(
            severity=Severity.WARNING,
            faults=("text-quality", "conflicting-labels"),
            message=f"{len(rows):,} of {samples.count:,} prompts have one and the same answer ({share:.1%})",
            measured={"share": Measure(value=float(share), threshold=limits.one_answer)},
            rows=listed(samples, rows),
            remedy="keep a few of them: a model gives the answer that it has seen most",
            **seen("equal answers by a 128-bit digest"),
        )


@look("DAT020")
def transcript_quality(clips: AudioClips, limits: TextLimits) -> Iterator[Finding]:
    """Transcripts that were read in a wrong encoding."""
    found = {row: words for row, text in enumerate(clips.transcripts) if (words := damage(text))}
    if found:
        rows = np.array(list(found), np.int64)
        share = len(rows) / len(clips.transcripts)
        yield Finding(
            severity=Severity.ERROR if share >= limits.damaged and len(rows) > 1 else Severity.WARNING,
            faults=("text-encoding",),
            message=f"{len(rows):,} of {len(clips.transcripts):,} transcripts are damaged: {next(iter(found.values()))}",
            measured={"share": Measure(value=share, threshold=limits.damaged)},
            rows=listed(clips.samples, rows, list(found.values())),
            remedy="read the manifest as UTF-8 (or as what it is) once, and write UTF-8",
            **seen("undoing the wrong decoding gives letters"),
        )
