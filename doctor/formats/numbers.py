"""Statistics of tensors read from files in one pass, chunk by chunk, several chunks at once; memory stays small."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from doctor.evidence.artifact_contents import TensorEntry
from doctor.formats.files import Window

CHUNK = 1 << 20  # bytes: with its conversion it stays in the second-level cache
_PART = 64 << 20  # bytes of a tensor that one worker reads
_SAMPLE = 4096  # values of a tensor that are kept for its quantiles
_STRIDED = 512 << 20  # bytes up to which a tensor with gaps is read as a whole
_PLAIN = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "bfloat16": np.uint16,
    "qint8": np.int8,
    "quint8": np.uint8,
    "qint32": np.int32,
}
_EIGHT_BITS = {  # exponent bits, mantissa bits, bias, whether there are infinities, whether 0x80 is the only NaN
    "float8_e4m3fn": (4, 3, 7, False, False),
    "float8_e5m2": (5, 2, 15, True, False),
    "float8_e4m3fnuz": (4, 3, 8, False, True),
    "float8_e5m2fnuz": (5, 2, 16, False, True),
}
LARGEST = {
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float32": 3.4028234663852886e38,
    "float64": 1.7976931348623157e308,
    "float8_e4m3fn": 448.0,
    "float8_e5m2": 57344.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2fnuz": 57344.0,
}
SMALLEST_NORMAL = {
    "float16": 6.103515625e-05,
    "bfloat16": 1.1754943508222875e-38,
    "float32": 1.1754943508222875e-38,
    "float64": 2.2250738585072014e-308,
    "float8_e4m3fn": 2.0**-6,
    "float8_e5m2": 2.0**-14,
}
Values = np.ndarray[Any, Any]


def readable(dtype: str) -> bool:
    """Whether numbers of this type are examined."""
    return dtype in _PLAIN or dtype in _EIGHT_BITS


@dataclass
class Moments:
    """What is known of the values seen so far; those that are not finite count for nothing but their number."""

    count: int = 0
    nan: int = 0
    infinite: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0
    at_limit: int = 0
    subnormal: int = 0
    sampled: int = 0
    sample: list[Values] = field(default_factory=list)

    def add(self, values: Values, dtype: str, sample: int) -> None:
        """Take one chunk of real numbers; `sample` of them are kept."""
        self.count += values.size
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = np.isfinite(values)
            nan = int(np.isnan(values).sum())
            self.nan += nan
            self.infinite += int(values.size - finite.sum()) - nan
            values = values[finite]
            if not values.size:
                return
            low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._sums(values, max(-low, high))
        limit = LARGEST.get(dtype)
        if limit is not None and max(-low, high) >= limit:
            self.at_limit += int((np.abs(values) >= limit).sum())
        if sample:
            some = values[:: max(1, values.size // sample)][:sample]
            self.sample.append(np.array(some))
            smallest = SMALLEST_NORMAL.get(dtype)
            if smallest is not None:
                size = np.abs(some)
                self.subnormal += int(((size > 0) & (size < smallest)).sum())
                self.sampled += some.size

    def _sums(self, values: Values, largest: float) -> None:
        if values.dtype == np.float32 and largest < 1e15:
            self.total += float(values.sum())
            self.squares += float(np.dot(values, values))
        else:
            wide = values.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                self.total += float(wide.sum())
                self.squares += float(np.dot(wide, wide))

    def merge(self, other: Moments) -> None:
        """Take what another worker saw."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        for name in ("count", "nan", "infinite", "total", "squares", "at_limit", "subnormal", "sampled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.sample.extend(other.sample)


def moments(root: Path, tensors: Iterable[TensorEntry], workers: int | None = None) -> list[Moments | None]:
    """The moments of each tensor; None for one that cannot be read. Files are read by `workers` threads."""
    listed = list(tensors)
    parts = [(index, part) for index, tensor in enumerate(listed) for part in _parts(tensor)]
    with ExitStack() as stack:
        windows: dict[str, Window] = {}
        for tensor in listed:
            if tensor.file not in windows:
                windows[tensor.file] = stack.enter_context(Window(root / tensor.file))
        count = workers or min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(count) as pool:
            partial = pool.map(lambda one: _part(windows, listed[one[0]], one[1]), parts)
            result: list[Moments | None] = [None] * len(listed)
            for (index, _), seen in zip(parts, partial, strict=True):
                known = result[index]
                if known is None:
                    result[index] = seen
                else:
                    known.merge(seen)
    return result


def _parts(tensor: TensorEntry) -> Iterator[tuple[int, int]]:
    if tensor.unread or not readable(tensor.dtype) or not tensor.numel:
        return
    if tensor.strides is not None:
        if tensor.nbytes <= _STRIDED:
            yield 0, tensor.nbytes
        return
    for begin in range(0, tensor.nbytes, _PART):
        yield begin, min(_PART, tensor.nbytes - begin)


def _part(windows: Mapping[str, Window], tensor: TensorEntry, part: tuple[int, int]) -> Moments:
    seen = Moments()
    window, (begin, count) = windows[tensor.file], part
    chunks = max(1, -(-tensor.nbytes // CHUNK))
    sample = max(1, _SAMPLE // chunks) if chunks <= _SAMPLE else 0
    if tensor.strides is not None:
        plain = _typed(np.frombuffer(window.read(tensor.offset, count), np.uint8), tensor.dtype)
        # Expanded dimensions (stride 0) repeat the same values; where others overlap, all values of the span are taken.
        sides = [(size, step) for size, step in zip(tensor.shape, tensor.strides, strict=True) if step]
        shape, steps = tuple(side[0] for side in sides), tuple(side[1] * plain.itemsize for side in sides)
        if math.prod(shape) <= plain.size:
            plain = np.lib.stride_tricks.as_strided(plain, shape, steps, writeable=False).ravel()
        seen.add(_real(plain, tensor.dtype), tensor.dtype, _SAMPLE)
        return seen
    for index, chunk in enumerate(window.chunks(tensor.offset + begin, count, CHUNK)):
        keep = sample or int(index % (chunks // _SAMPLE + 1) == 0)
        seen.add(_real(_typed(np.frombuffer(chunk, np.uint8), tensor.dtype), tensor.dtype), tensor.dtype, keep)
    return seen


def _typed(raw: Values, dtype: str) -> Values:
    kind = np.dtype(_PLAIN.get(dtype, np.uint8))
    return raw[: raw.size // kind.itemsize * kind.itemsize].view(kind)


def _real(values: Values, dtype: str) -> Values:
    """The values as real numbers that NumPy computes with."""
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "float16":
        return values.astype(np.float32)
    if dtype in _EIGHT_BITS:
        return eight_bits(dtype)[values]
    if values.dtype.kind == "c":
        return values.view(np.float32 if values.dtype == np.complex64 else np.float64)
    return values


@cache
def eight_bits(dtype: str) -> Values:
    """The value of each of the 256 codes of an eight-bit floating-point type."""
    exponent_bits, mantissa_bits, bias, infinities, one_nan = _EIGHT_BITS[dtype]
    table = np.empty(256, np.float32)
    top = (1 << exponent_bits) - 1
    for code in range(256):
        sign = -1.0 if code & 128 else 1.0
        exponent, mantissa = (code >> mantissa_bits) & top, code & ((1 << mantissa_bits) - 1)
        fraction = mantissa / (1 << mantissa_bits)
        value = sign * (2.0 ** (1 - bias) * fraction if exponent == 0 else 2.0 ** (exponent - bias) * (1 + fraction))
        if one_nan:
            value = math.nan if code == 128 else value
        elif infinities and exponent == top:
            value = sign * math.inf if mantissa == 0 else math.nan
        elif not infinities and exponent == top and mantissa == (1 << mantissa_bits) - 1:
            value = math.nan
        table[code] = value
    return table


def array(root: Path, tensor: TensorEntry, limit: int = 64 << 20) -> Values | None:
    """The values of a tensor in its shape, as real numbers; None when it is larger than `limit` bytes or unreadable."""
    if tensor.unread or not readable(tensor.dtype) or tensor.nbytes > limit or tensor.strides is not None:
        return None
    with Window(root / tensor.file) as window:
        raw = window.read(tensor.offset, tensor.nbytes)
    values = _real(_typed(np.frombuffer(raw, np.uint8), tensor.dtype), tensor.dtype)
    return values.reshape(tensor.shape) if values.size == tensor.numel else None
