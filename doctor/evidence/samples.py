"""What samples of every kind have in common: names, splits, labels, contents and a few simple features."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from doctor.evidence.base import Evidence

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]
    Flags = npt.NDArray[np.bool_]
else:
    from doctor.lazy import numpy as np

    Ints = Floats = Flags = Any

TRAINING = "train"


@dataclass(frozen=True)
class Samples(Evidence):
    """Columns of equal length n, one entry a sample, in the order in which they are stored.

    `kind` is image, audio, text or tensor, `unit` what one sample is called. `names` are files, `row` the number of the
    sample in its file (lines, arrays) or in its split, from 0. `split` and `label` count into `splits`
    and `labels` (-1: none). Equal numbers in `content` mean inputs equal by a 128-bit digest (-1: could not be read), in
    `answer` equal targets (-1: none); answers of classified samples are their classes, others are free text or numbers.
    `features` has a row for each sample of `featured` (all, or a random part where there are very many).
    `repeatable` marks inputs so short that two of them may well be equal by chance.
    """

    kind: str
    unit: str
    names: tuple[str, ...]
    row: Ints
    splits: tuple[str, ...]
    split: Ints
    labels: tuple[str, ...]
    label: Ints
    content: Ints
    answer: Ints
    features: Floats
    featured: Ints
    repeatable: Flags
    notes: tuple[str, ...] = field(default=())

    @property
    def count(self) -> int:
        """How many samples."""
        return len(self.names)

    @property
    def whole_files(self) -> bool:
        """Whether each sample is a file of its own."""
        return self.kind in ("image", "audio") or self.unit == "document"

    @property
    def classified(self) -> bool:
        """Whether the targets are classes."""
        return len(self.labels) >= 2

    @cached_property
    def training(self) -> Ints:
        """Indices of the training samples (all, where there are no splits)."""
        if TRAINING not in self.splits:
            return np.flatnonzero(self.split == 0)
        return np.flatnonzero(self.split == self.splits.index(TRAINING))

    @cached_property
    def evaluation(self) -> Ints:
        """Indices of the samples of all other splits."""
        inside = np.zeros(self.count, dtype=bool)
        inside[self.training] = True
        return np.flatnonzero(~inside)

    @cached_property
    def copies(self) -> Ints:
        """Indices of samples that repeat an earlier one of the same split: input and answer."""
        return later_copies(self._whole() * max(len(self.splits), 1) + self.split, self.content >= 0)

    @cached_property
    def leaked(self) -> Ints:
        """Indices of evaluation samples whose input stands in the training set (free answers: with its answer)."""
        key = self.content if self.classified else self._whole()
        seen = np.unique(key[self.training][self.content[self.training] >= 0])
        rows = self.evaluation[self.content[self.evaluation] >= 0]
        found: Ints = rows[np.isin(key[rows], seen)]
        return found

    @cached_property
    def contradicted(self) -> tuple[Ints, ...]:
        """Groups of samples with the same input and different answers."""
        known = np.flatnonzero((self.content >= 0) & (self.answer >= 0))
        if not len(known):
            return ()
        order = known[np.lexsort((self.answer[known], self.content[known]))]
        content = self.content[order]
        starts = np.flatnonzero(np.r_[True, content[1:] != content[:-1]])
        groups = np.split(order, starts[1:])
        return tuple(group for group in groups if len(group) > 1 and len(set(self.answer[group].tolist())) > 1)

    def repeat_rate(self, rows: Ints) -> float:
        """Share of these samples whose input occurs among them at least twice: how often chance repeats one."""
        _, inverse, counts = np.unique(self.content[rows], return_inverse=True, return_counts=True)
        return float((counts[inverse] > 1).mean()) if len(rows) else 0.0

    def _whole(self) -> Ints:
        return self.content * (int(self.answer.max(initial=0)) + 2) + self.answer + 1


def later_copies(key: Ints, known: Flags) -> Ints:
    """Indices whose key occurred before, in ascending order."""
    rows = np.flatnonzero(known)
    _, first = np.unique(key[rows], return_index=True)
    later = np.ones(len(rows), dtype=bool)
    later[first] = False
    return rows[later]


def spelling(label: str) -> str:
    """A label without what differs between spellings of one name: case, spaces, strokes between letters."""
    return " ".join(re.sub(r"(?<=[^\W\d])[-_](?=[^\W\d])", " ", label).casefold().split())
