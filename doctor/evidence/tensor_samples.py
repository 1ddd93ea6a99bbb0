"""The samples of tensors and of torch data sets, each taken once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.evidence.base import Evidence
from doctor.evidence.samples import Ints, Samples

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SplitMoments:
    """Values of one split by channel (or feature): mean, deviation over all its samples, between-sample deviation of the
    samples' means, smallest and largest; shape (channels,) each. NaN and infinite values are left out.
    """

    split: str
    samples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    between: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class TensorSamples(Evidence):
    """Columns over `samples`: numbers of NaN and of infinite values, and which of `shapes` (with their dtypes) each has.

    `channelled` says whether moments are by colour channel, `image` whether samples look like pictures, `ids` whether
    they are integers that stand for tokens. `failed` are the samples that raised an error: split, name, number, reason. `label_values` counts the
    numeric labels by split; `label_type` is their dtype; `low` and `high` are each sample's extreme
    values, `constant` the samples that have one value only; `bad_labels` are samples whose label is NaN or missing.
    `repeats_by_workers` is the number of workers when a loader with workers gave every sample that many times.
    """

    samples: Samples
    nan: Ints
    infinite: Ints
    shapes: tuple[str, ...]
    shape: Ints
    moments: tuple[SplitMoments, ...]
    image: bool
    ids: bool
    failed: tuple[tuple[str, str, int, str], ...]
    label_type: str
    label_values: tuple[tuple[str, tuple[tuple[float, int], ...]], ...]
    bad_labels: Ints
    constant: Ints
    low: Doubles
    high: Doubles
    x_name: str = "x"
    y_name: str = "y"
    repeats_by_workers: int = 0
