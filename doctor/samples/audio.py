"""Reading one recording: what its header says, what its samples are, and a few simple features."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from doctor.errors import DoctorError
from doctor.samples.archives import Packed
from doctor.samples.reading import digest

if TYPE_CHECKING:
    import soundfile

Array = npt.NDArray[np.float32]
BANDS, SLOTS = 24, 16
_LOW_HZ, _HIGH_HZ = 60.0, 3800.0  # what telephone recordings have, too: features of different rates stay comparable
_FRAMES = 2000  # spectra of one recording at most
_LONGEST_S = 120.0  # of which features are computed; level, clipping and contents are those of the whole


@dataclass(frozen=True, slots=True)
class Clip:
    """One file. `error` says why it cannot be decoded, and the rest is then empty.

    `peak` and `rms` are between 0 and 1, `clipped` is the share of samples in runs of three or more at full scale.
    `picture` holds 24 mel bands by 16 parts of the duration, with mean 0; `features` what a simple model may learn from.
    """

    error: str | None = None
    rate: int = 0
    channels: int = 0
    seconds: float = 0.0
    peak: float = 0.0
    rms: float = 0.0
    clipped: float = 0.0
    content: bytes = b""
    picture: Array | None = None
    features: Array | None = None


def needed() -> None:
    """Import soundfile; raises DoctorError where it is not installed."""
    try:
        import soundfile  # noqa: F401
    except (ImportError, OSError):
        raise DoctorError("recordings need soundfile", "pip install 'pytorch-doctor[samples]'") from None


def opened(path: Path | Packed) -> soundfile.SoundFile:
    """An audio file, ready to be decoded; raises what soundfile raises."""
    import soundfile

    return soundfile.SoundFile(path.open("rb") if isinstance(path, Packed) else str(path))


def read_clip(path: Path | Packed) -> Clip:
    """Decode an audio file wholly."""
    if not path.is_file():
        return Clip(error="no such file")
    try:
        with path.open("rb") as raw:
            missing = _missing_bytes(raw)
        if missing is None:
            return Clip(error="empty file")
        with opened(path) as stream:
            rate, channels = stream.samplerate, stream.channels
            values = stream.read(dtype="float32", always_2d=True)
    except OSError as failure:
        return Clip(error=f"cannot be read: {failure.strerror or failure}")
    except Exception as failure:
        return Clip(
            error=f"cannot be decoded: {str(failure).rpartition(': ')[2].rstrip('.') or type(failure).__name__}"
        )
    if missing:
        return Clip(error=f"cut off: {missing} bytes fewer than its header says")
    if not len(values):
        return Clip(error="no samples")
    if not np.isfinite(values).all():
        return Clip(error="NaN or infinite samples")
    mono = values.mean(1)
    peak = float(np.abs(values).max())
    picture, features = _spectra(mono, rate)
    return Clip(
        rate=rate,
        channels=channels,
        seconds=len(values) / rate,
        peak=peak,
        rms=float(np.sqrt(np.mean(np.square(mono, dtype=np.float64)))),
        clipped=_clipped(values, peak),
        content=digest(struct.pack("<ii", rate, channels), np.ascontiguousarray(values).data),
        picture=picture,
        features=features,
    )


def _missing_bytes(stream: IO[bytes]) -> int | None:
    """How many bytes a RIFF file lacks of what its data chunk announces (decoders pass over it silently); None: empty."""
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 0 if size else None
    while len(chunk := stream.read(8)) == 8:
        name, length = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data":
            streamed = length in (0, 0xFFFFFFFF, 0x7FFFFFFF) or length >= 0xFFFFFF00
            return 0 if streamed else max(0, length - (size - stream.tell()))
        stream.seek(length + length % 2, 1)
    return 0


def _clipped(values: Array, peak: float) -> float:
    if peak < 0.98:
        return 0.0
    full = np.abs(values) >= peak - 1e-4
    runs = full[2:] & full[1:-1] & full[:-2]
    return float(3 * runs.sum() / values.size) if len(values) > 2 else 0.0


@lru_cache(maxsize=16)
def _mel(rate: int, width: int) -> Array:
    """Triangles over the bins of a spectrum: (bins, bands)."""
    edges = np.geomspace(_LOW_HZ + 700, _HIGH_HZ + 700, BANDS + 2) - 700
    bins = np.fft.rfftfreq(width, 1 / rate)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _spectra(mono: Array, rate: int) -> tuple[Array, Array]:
    """The picture of a recording, and its features: mean and deviation by band, the picture, duration."""
    seconds = len(mono) / rate
    mono = mono[: int(_LONGEST_S * rate)]
    width = 1 << max(5, int(np.ceil(np.log2(max(0.025 * rate, 32)))))
    if len(mono) < width:
        mono = np.pad(mono, (0, width - len(mono)))
    frames = min(_FRAMES, max(SLOTS, 1 + (len(mono) - width) // max(1, width // 2)))
    starts = np.linspace(0, len(mono) - width, frames).astype(int)
    windows = mono[starts[:, None] + np.arange(width)] * np.hanning(width).astype(np.float32)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    bands = np.log10(power @ _mel(rate, width) / width + 1e-9).astype(np.float32)
    slots = np.array_split(np.arange(frames), SLOTS)
    picture = np.stack([bands[slot].mean(0) for slot in slots])
    level = picture.mean()
    features = np.concatenate((bands.mean(0), bands.std(0), (picture - level).ravel(), [np.log10(seconds + 1e-3)]))
    return (picture - level).ravel(), features.astype(np.float32)
