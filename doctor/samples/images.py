"""Reading one image: what its file says, what its pixels are, and a few simple features."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from doctor.errors import DoctorError
from doctor.samples.archives import Packed
from doctor.samples.reading import digest

if TYPE_CHECKING:
    import PIL.Image

Array = npt.NDArray[np.float32]
THUMB = 16  # pixels a side of the picture by which images are compared
_CELLS, _BINS = 4, 8
_CHANNELS = {"1": 1, "L": 1, "I": 1, "F": 1, "I;16": 1, "LA": 2, "RGB": 3, "YCbCr": 3, "HSV": 3, "LAB": 3, "P": 3,
             "RGBA": 4, "RGBX": 4, "CMYK": 4, "PA": 4}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Image:
    """One file. `error` says why it cannot be decoded, and the rest is then empty.

    `saturation` is the mean difference of the largest and the smallest channel, `mean` and `std` are those of R, G and
    B, all on the scale of 0 to 255. `thumb` holds 16 x 16 x 3 bytes, `features` what a simple model may learn from.
    """

    error: str | None = None
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    channels: int = 0
    format: str = ""
    saturation: float = 0.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (0.0, 0.0, 0.0)
    opaque: bool = True
    pixels: bytes = b""
    thumb: npt.NDArray[np.uint8] | None = None
    features: Array | None = None


def needed() -> None:
    """Import Pillow; raises DoctorError where it is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise DoctorError("images need Pillow", "pip install 'pytorch-doctor[samples]'") from None


def read_image(path: Path | Packed) -> Image:
    """Decode an image file wholly."""
    import PIL.Image

    try:
        content = path.read_bytes()
    except OSError as failure:
        return Image(error=f"cannot be read: {failure.strerror or failure}")
    if not content:
        return Image(error="empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with PIL.Image.open(io.BytesIO(content)) as opened:
                opened.load()
                return _measured(opened)
        except PIL.UnidentifiedImageError:
            return Image(error="no image")
        except Exception as failure:  # decoders raise whatever they like
            return Image(error=f"cannot be decoded: {str(failure).partition(' (')[0] or type(failure).__name__}")


def _measured(opened: PIL.Image.Image) -> Image:
    import PIL.Image

    has_palette_alpha = opened.mode == "P" and "transparency" in opened.info
    channels = 4 if has_palette_alpha else _CHANNELS.get(opened.mode, len(opened.getbands()))
    alpha = opened.getchannel("A") if "A" in opened.getbands() else None
    opaque = alpha is None or alpha.getextrema()[0] == 255
    rgb = as_rgb(opened)
    pixels = np.asarray(rgb)
    small = pixels if pixels.size <= 1 << 18 else np.asarray(rgb.reduce(max(2, int((pixels.size / 150_000) ** 0.5))))
    values = small.reshape(-1, 3).astype(np.float32)
    mean, std = values.mean(0), values.std(0)
    saturation = float((values.max(1) - values.min(1)).mean())
    thumb = np.asarray(rgb.resize((THUMB, THUMB), PIL.Image.Resampling.BOX))
    return Image(
        mode=opened.mode,
        size=opened.size,
        channels=channels,
        format=opened.format or "",
        saturation=saturation,
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        opaque=opaque,
        pixels=digest(np.array(pixels.shape).tobytes(), np.ascontiguousarray(pixels).data),
        thumb=thumb,
        features=_features(rgb, thumb, mean, std),
    )


def as_rgb(opened: PIL.Image.Image) -> PIL.Image.Image:
    """The image in eight bits of red, green and blue; 16 bits and floats are scaled."""
    import PIL.Image

    if opened.mode in ("I;16", "I", "F"):  # convert() would clip 16 bits to 8
        values = np.asarray(opened, dtype=np.float64)
        top = values.max()
        scale = 255.0 / (65535.0 if top > 255 else 255.0 if top > 1 else 1.0)
        return PIL.Image.fromarray(np.clip(values * scale, 0, 255).astype(np.uint8)).convert("RGB")
    return opened if opened.mode == "RGB" else opened.convert("RGB")


def _features(rgb: PIL.Image.Image, thumb: npt.NDArray[np.uint8], mean: Array, std: Array) -> Array:
    """Grey values, orientations of edges by cell, colours by cell, and moments: about 400 numbers from 0 to 1."""
    import PIL.Image

    grey = np.asarray(rgb.resize((32, 32), PIL.Image.Resampling.BOX).convert("L"), dtype=np.float32) / 255
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    turn = ((np.arctan2(down, right) % np.pi) / np.pi * _BINS).astype(int) % _BINS
    cell = np.arange(32) * _CELLS // 32
    place = (cell[:, None] * _CELLS + cell[None, :]) * _BINS + turn
    edges = np.bincount(place.ravel(), strength.ravel(), _CELLS * _CELLS * _BINS).astype(np.float32)
    edges /= np.linalg.norm(edges) + 1e-3
    colour = thumb.reshape(_CELLS, THUMB // _CELLS, _CELLS, THUMB // _CELLS, 3).mean((1, 3)).ravel() / 255
    parts = (grey.reshape(16, 2, 16, 2).mean((1, 3)).ravel(), edges, colour, mean / 255, std / 255)
    return np.concatenate(parts).astype(np.float32)


def exchanged(features: Array) -> Array:
    """The features of the same images with red and blue exchanged (grey values as they are). (images, features)."""
    turned = features.copy()
    start = (THUMB * THUMB) + _CELLS * _CELLS * _BINS
    for place in range(start, features.shape[1], 3):
        turned[:, place], turned[:, place + 2] = features[:, place + 2], features[:, place]
    return turned
