"""The recordings of a data set, each decoded once, with their transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.evidence.base import Evidence
from doctor.evidence.samples import Floats, Samples

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    from doctor.lazy import numpy as np


@dataclass(frozen=True)
class AudioClips(Evidence):
    """Columns over the recordings of `samples`, in their order.

    `errors` says why a file cannot be decoded (empty: it can). `rates` are in Hz, `seconds` durations, `peaks` and `rms`
    from 0 to 1, `clipped` the share of samples in runs at full scale, `said_seconds` the duration and `said_rates` the
    rate by the manifest (NaN: not given). `transcripts` is empty where the data set has none; `letters` counts each
    one's characters. `pictures` are mel spectra of shape (recordings, 384).
    """

    samples: Samples
    errors: tuple[str, ...]
    rates: npt.NDArray[np.int64]
    channels: npt.NDArray[np.int64]
    seconds: Floats
    peaks: Floats
    rms: Floats
    clipped: Floats
    said_seconds: Floats
    said_rates: Floats
    transcripts: tuple[str, ...]
    letters: npt.NDArray[np.int64]
    pictures: Floats
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def decoded(self) -> npt.NDArray[np.int64]:
        """Indices of the recordings that can be decoded."""
        return np.flatnonzero(self.rates > 0)
