"""The images of a data set, each decoded once."""

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
class ImageFiles(Evidence):
    """Columns over the images of `samples`, in their order.

    `errors` says why a file cannot be decoded (empty: it can). `mean` and `std` are those of R, G and B, of shape
    (images, 3), `saturation` the mean distance of an image's channels, all from 0 to 255. `thumbs` are 16 x 16 pictures
    in bytes, (images, 768). `transparent` marks an alpha channel that hides something.
    """

    samples: Samples
    errors: tuple[str, ...]
    modes: tuple[str, ...]
    channels: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    saturation: Floats
    mean: Floats
    std: Floats
    transparent: npt.NDArray[np.bool_]
    thumbs: npt.NDArray[np.uint8]

    @property
    def decoded(self) -> npt.NDArray[np.int64]:
        """Indices of the images that can be decoded."""
        return np.flatnonzero(self.channels > 0)
