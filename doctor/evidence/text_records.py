"""The records of a text data set, each read once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from doctor.evidence.base import Evidence
from doctor.evidence.samples import Flags, Floats, Ints, Samples

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    from doctor.lazy import numpy as np

# Split, file, number of the line (from 0), and what is wrong there.
Place = tuple[str, str, int, str]
Places = tuple[Place, ...]


@dataclass(frozen=True)
class TokenCounts(Evidence):
    """What a tokenizer makes of the records: columns over them. `length` is the longest input that the model takes.

    `vocabulary` is the number of ids that the tokenizer has, `rows` that of the model's embedding (None: not known).
    """

    tokenizer: str
    length: int | None
    vocabulary: int
    rows: int | None
    tokens: Ints
    unknown: Ints
    double_begin: Flags
    double_end: Flags
    has_unknown: bool
    padding: str


@dataclass(frozen=True)
class TextRecords(Evidence):
    """Columns over the records of `samples` that could be read, in their order; and the places of those that could not.

    `form` is chat, answer, classified, plain or ids. `lines` counts all records, the broken ones too. `letters` and
    `answer_letters` are lengths in characters (answers: -1 where there is none). `sketches` estimate overlap, of shape
    (records, 128). `ids` are the smallest and the largest token id of each record, (records, 2), where they
    hold ids.
    `sensitive` are places of personal data or secrets: kind, whether it is personal, the place with the masked value.
    `overlap` holds the first records with a free answer: their indices, and the words of prompt and answer as vectors.
    """

    samples: Samples
    form: str
    answer_key: str
    lines: int
    malformed: Places
    wrong_roles: Places
    open_ended: Places
    undecodable: Places
    damaged: Places
    endless: Places
    letters: Ints
    answer_letters: Ints
    sketches: npt.NDArray[np.uint32]
    systems: int
    ids: Ints | None = None
    overlap: tuple[Ints, Floats, Floats] | None = field(default=None, repr=False)
    tokens: TokenCounts | None = None
    sensitive: tuple[tuple[str, bool, Place], ...] = ()

    @property
    def empty_answers(self) -> Ints:
        """Indices of the records whose answer or label is there but empty."""
        return np.flatnonzero(self.answer_letters == 0)

    @property
    def empty_texts(self) -> Ints:
        """Indices of the records without any input text."""
        return np.flatnonzero(self.letters == 0) if self.form != "ids" else np.zeros(0, np.int64)


def by_reason(places: Iterable[Place]) -> list[tuple[str, list[Place]]]:
    """Places under their reason (what stands before a colon), the commonest first."""
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(place[3].partition(": ")[0], []).append(place)
    return sorted(groups.items(), key=lambda pair: -len(pair[1]))
