"""Values of samples that are no numbers, and token ids that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from doctor.evidence.tensor_samples import TensorSamples
from doctor.evidence.text_records import TextRecords, TokenCounts
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from ._samples import listed, seen

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np


@look("DAT001")
def nan_in_samples(tensors: TensorSamples) -> Iterator[Finding]:
    """NaN and infinite values in inputs and targets."""
    samples = tensors.samples
    for column, what in ((tensors.nan, "NaN"), (tensors.infinite, "infinite values")):
        rows = np.flatnonzero(column)
        if len(rows):
            values = int(column.sum())
            yield Finding(
                severity=Severity.ERROR,
                message=f"{len(rows):,} of {samples.count:,} samples hold {what} ({values:,} values)",
                measured={"samples": Measure(value=len(rows), threshold=0), "values": Measure(value=values)},
                rows=listed(samples, rows, [f"{column[row]} values" for row in rows[:20]]),
                remedy="find out where they come from; impute them with an indicator, or leave the samples out",
                **seen("one NaN in a batch makes the loss NaN"),
            )
    if len(tensors.bad_labels):
        yield Finding(
            severity=Severity.ERROR,
            message=f"{len(tensors.bad_labels):,} of {samples.count:,} targets are NaN or infinite",
            measured={"targets": Measure(value=len(tensors.bad_labels), threshold=0)},
            rows=listed(samples, tensors.bad_labels),
            remedy="leave these samples out, or mask them in the loss",
            **seen("one NaN in a batch makes the loss NaN"),
        )


class TokenizerLimits(Limits):
    """Thresholds of DAT019 on texts."""

    unknown: float = 0.01  # of the tokens
    error_unknown: float = 0.05
    truncated: float = 0.05  # of the records are longer than the model takes
    doubled: float = 0.5  # of the records begin or end by the same special token twice


@look("DAT019")
def tokens_of_texts(texts: TextRecords, tokens: TokenCounts, limits: TokenizerLimits) -> Iterator[Finding]:
    """What a tokenizer makes of the texts: unknown tokens, cut ends, special tokens twice, ids without a row."""
    samples = texts.samples
    total = int(tokens.tokens.sum())
    unknown = int(tokens.unknown.sum()) / max(total, 1)
    if tokens.has_unknown and unknown >= limits.unknown:
        rows = np.flatnonzero(tokens.unknown > 0.2 * tokens.tokens)
        where = f"in {len(rows):,} records it is a fifth or more"
        if not len(rows):
            rows = np.flatnonzero(tokens.unknown)
            where = f"{len(rows):,} of {samples.count:,} records have some"
        yield Finding(
            severity=Severity.ERROR if unknown >= limits.error_unknown else Severity.WARNING,
            message=f"{unknown:.1%} of {total:,} tokens are unknown to {tokens.tokenizer}; {where}",
            measured={"unknown": Measure(value=unknown, threshold=limits.unknown)},
            rows=listed(samples, rows),
            remedy="use the tokenizer of this language and spelling, or one that falls back to bytes",
            **seen("tokens counted over all records"),
        )
    if tokens.length:
        cut = np.flatnonzero(tokens.tokens > tokens.length)
        share = len(cut) / max(samples.count, 1)
        if share >= limits.truncated:
            yield Finding(
                severity=Severity.WARNING,
                message=f"{len(cut):,} of {samples.count:,} records are longer than {tokens.length} tokens ({share:.1%}): "
                "their end, and with it the answer, is cut off",
                measured={"truncated": Measure(value=share, threshold=limits.truncated),
                          "longest": Measure(value=int(tokens.tokens.max()), threshold=tokens.length)},
                rows=listed(samples, cut),
                remedy="raise the length, split these records, or cut the prompt instead of the answer",
                **seen("tokens counted over all records"),
            )  # fmt: skip
    for flags, what in ((tokens.double_begin, "begin"), (tokens.double_end, "end")):
        rows = np.flatnonzero(flags)
        if len(rows) >= max(2, limits.doubled * samples.count):
            yield Finding(
                severity=Severity.WARNING,
                message=f"{len(rows):,} of {samples.count:,} records {what} with the same special token twice",
                measured={"share": Measure(value=len(rows) / samples.count, threshold=limits.doubled)},
                rows=listed(samples, rows),
                remedy="add the token once: add_special_tokens=False where the text holds it already",
                **seen("the first and last two tokens of each record"),
            )
    if tokens.rows is not None and tokens.vocabulary > tokens.rows:
        yield Finding(
            severity=Severity.ERROR,
            message=f"the tokenizer has {tokens.vocabulary:,} ids, the model's embedding {tokens.rows:,} rows",
            measured={"ids": Measure(value=tokens.vocabulary, threshold=tokens.rows)},
            remedy="model.resize_token_embeddings(len(tokenizer))",
            **seen("vocab_size in config.json"),
        )
    if tokens.padding in ("none", "unknown"):
        yield Finding(
            severity=Severity.INFO,
            faults=("padding-token",),
            message="the tokenizer has no padding token of its own"
            + (": the one for unknown words is used" if tokens.padding == "unknown" else ""),
            remedy="add one, or pad by the end token and mask it by position, not by its id",
        )


@look("DAT019")
def stored_ids(texts: TextRecords, tokens: TokenCounts | None) -> Iterator[Finding]:
    """Records of token ids against the vocabulary."""
    if texts.ids is None:
        return
    low, high = int(texts.ids[:, 0].min()), int(texts.ids[:, 1].max())
    known = (tokens.rows or tokens.vocabulary) if tokens else None
    if low < 0 or (known is not None and high >= known):
        foreign = (texts.ids[:, 0] < 0) | (texts.ids[:, 1] >= known if known is not None else False)
        rows = np.flatnonzero(foreign)
        has = f"the vocabulary has {known:,} (0 to {known - 1:,})" if known else "the first id is 0"
        yield Finding(
            severity=Severity.ERROR,
            message=f"{len(rows):,} of {texts.samples.count:,} records hold token ids that no vocabulary row answers: ids run "
            f"from {low} to {high}, {has}",
            measured={"id": Measure(value=low if low < 0 else high, threshold=0 if low < 0 else (known or 0) - 1),
                      "records": Measure(value=len(rows), threshold=0)},
            rows=listed(texts.samples, rows),
            remedy="encode the texts anew by the tokenizer of this model",
            **seen("all ids were read"),
        )  # fmt: skip
