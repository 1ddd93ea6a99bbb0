"""Samples of evidence as the rows of a finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from doctor.evidence.samples import Ints, Samples
from doctor.evidence.text_records import Place
from doctor.findings import Effect, RowList, RowPlace, Verdict

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np

_FIRST = 20


def listed(samples: Samples, rows: Ints, values: Sequence[str] | None = None, of: int | None = None) -> RowList:
    """These samples, with what is to be said of each; `of` how many were looked at (all)."""

    def split(row: int) -> str:
        return samples.splits[int(samples.split[row])]

    first = tuple(
        RowPlace(
            split=split(row),
            row=int(samples.row[row]),
            path=samples.names[row],
            value=values[i] if values else None,
            whole=samples.whole_files,
        )
        for i, row in enumerate(rows[:_FIRST])
    )
    every = [(split(row), samples.names[row], int(samples.row[row])) for row in rows]
    return RowList(count=len(rows), of=of or samples.count, first=first, every=every)


def listed_places(places: Iterable[Place], of: int) -> RowList:
    """The same for records that could not be read."""
    places = sorted(places, key=lambda place: place[:3])
    first = tuple(RowPlace(split=split, row=row, path=path, value=value) for split, path, row, value in places[:_FIRST])
    return RowList(count=len(places), of=of, first=first, every=[place[:3] for place in places])


def seen(note: str) -> dict[str, Any]:
    """Verdict and effect of what was observed and needs no trial."""
    return {"demonstrated": note, "verdict": Verdict.CONFIRMED, "effect": Effect(statistic="observation", note=note)}


def compared(statistic: str, control: float, treated: float, note: str) -> dict[str, Any]:
    """Verdict and effect of a reference model's metric with and without the fault."""
    effect = Effect(statistic=statistic, control=control, treated=treated, size=treated - control, note=note)
    return {"demonstrated": note, "verdict": Verdict.CONFIRMED, "effect": effect}


def units(samples: Samples, count: int) -> str:
    """`1 file`, `12 recordings`."""
    return f"{count:,} {samples.unit}{'s' * (count != 1)}"


def share_of(rows: Ints, samples: Samples) -> float:
    """The share of all samples."""
    return len(rows) / max(samples.count, 1)


def without(rows: Ints, left_out: Ints) -> Ints:
    """The rows that are not among those left out."""
    found: Ints = rows[~np.isin(rows, left_out)]
    return found
