"""Collecting the columns of `Samples` while samples are read one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from doctor.evidence.samples import TRAINING, Samples
from doctor.samples import splits
from doctor.samples.reading import Numbering, chosen, numbers


class Columns:
    """The columns so far. `count` is the number of samples to come, as far as known: it decides which keep features."""

    def __init__(self, kind: str, unit: str, count: int | None = None) -> None:
        self._kind, self._unit = kind, unit
        self._keep = set(chosen(count).tolist()) if count is not None else None
        self._names: list[str] = []
        self._rows: list[int] = []
        self._seen: Counter[str] = Counter()
        self._splits: list[str] = []
        self._labels: list[Any] = []
        self._content, self._answer = Numbering(), Numbering()
        self._contents: list[int] = []
        self._answers: list[int] = []
        self._repeatable: list[bool] = []
        self._features: list[npt.NDArray[np.float32]] = []
        self._featured: list[int] = []

    def __len__(self) -> int:
        """Samples so far."""
        return len(self._names)

    def wants_features(self) -> bool:
        """Whether the features of the sample that comes next will be kept."""
        index = len(self._names)
        return index in self._keep if self._keep is not None else len(self._featured) < len(chosen(index + 1))

    def add(
        self,
        name: str,
        split: str | None,
        label: Any,
        content: Hashable | None,
        answer: Hashable | None = None,
        features: npt.NDArray[np.float32] | None = None,
        repeatable: bool = False,
        row: int | None = None,
    ) -> None:
        """One sample. `label` is its class or None, `answer` its free target, `row` its number in its file or split."""
        self._seen[split or ""] += 1
        self._rows.append(self._seen[split or ""] - 1 if row is None else row)
        if features is not None and self.wants_features():
            self._featured.append(len(self._names))
            self._features.append(features)
        self._names.append(name)
        self._splits.append(split or "")
        self._labels.append(label)
        self._contents.append(self._content(content))
        self._answers.append(self._answer(answer))
        self._repeatable.append(repeatable)

    def relabel(self, meaning: Callable[[Any], Any]) -> None:
        """What the labels mean, once all are known."""
        self._labels = [meaning(label) for label in self._labels]

    def samples(self, notes: tuple[str, ...] = ()) -> Samples:
        """The record. Samples without a split go with the training ones."""
        found = splits.ordered({split or TRAINING for split in self._splits} or {TRAINING})
        place = {name: index for index, name in enumerate(found)} | {
            "": found.index(TRAINING) if "" in self._splits else 0
        }
        names = tuple(sorted({label for label in self._labels if label is not None}, key=_order))
        code = {label: index for index, label in enumerate(names)}
        labels = numbers(code.get(label, -1) if label is not None else -1 for label in self._labels)
        answer = labels if names else numbers(self._answers)
        return Samples(
            kind=self._kind,
            unit=self._unit,
            names=tuple(self._names),
            row=numbers(self._rows),
            splits=found,
            split=numbers(place[split] for split in self._splits),
            labels=tuple(str(name) for name in names),
            label=labels,
            content=numbers(self._contents),
            answer=answer,
            features=np.stack(self._features) if self._features else np.zeros((0, 0), np.float32),
            featured=numbers(self._featured),
            repeatable=np.array(self._repeatable, dtype=bool),
            notes=notes,
        )


def _order(label: Any) -> tuple[bool, float, str]:
    try:
        return False, float(label), str(label)
    except (TypeError, ValueError):
        return True, 0.0, str(label)
