"""Treatment of values that stand for missing ones."""

from __future__ import annotations

from typing import ClassVar

from doctor.trials.treatments.base import Treatment


class ImputeSentinels(Treatment):
    """Replace `values[i]` in column `columns[i]` of the root's input by `medians[i]`."""

    kind: ClassVar[str] = "impute-sentinels"
    columns: tuple[int, ...]
    values: tuple[float, ...]
    medians: tuple[float, ...]
    root: int = 0

    def describe(self) -> str:
        return "placeholders replaced by the median of their column"
