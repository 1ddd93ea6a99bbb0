"""Numbers about every tensor of an artifact, each byte read once."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.base import Evidence
from doctor.probes import probe

_QUANTILES = 33


@dataclass(frozen=True)
class TensorStats:
    """One tensor. `low`, `high`, `mean` and `std` are over its finite values; `quantiles` (33, the first the minimum)
    and `subnormal_share` over a sample of about 4096; `at_limit` counts the values at the largest number of the type.
    `digest` (128 bits) is known where another tensor may hold the same bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str = ""
    role: str = "weight"
    storage: str = ""
    count: int = 0
    nan: int = 0
    infinite: int = 0
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    at_limit: int = 0
    subnormal_share: float = 0.0
    quantiles: tuple[float, ...] = ()
    digest: str = ""

    @property
    def non_finite(self) -> int:
        """Number of values that are no finite numbers."""
        return self.nan + self.infinite

    @property
    def largest(self) -> float:
        """Largest absolute value."""
        return max(-self.low, self.high)

    @property
    def floating(self) -> bool:
        """Whether it holds real numbers."""
        return "float" in self.dtype or self.dtype.startswith("complex")

    @property
    def constant(self) -> bool:
        """Whether all its values are the same (of one value, too)."""
        return self.count > 0 and not self.non_finite and self.low == self.high

    def holds_only(self, value: float) -> bool:
        """Whether every value is this one."""
        return self.constant and self.low == value

    def uniform_within(self, bound: float) -> bool:
        """Whether the values look drawn from the uniform distribution on ±bound: none is beyond, the largest is as
        near as that of so many draws, mean and variance agree within four standard errors, and the quantiles of the
        sample lie on a line (Kolmogorov-Smirnov at about 0.1 %).
        """
        if not self.count or self.non_finite or bound <= 0:
            return False
        rounding = {"float16": 1e-3, "bfloat16": 8e-3}.get(self.dtype, 1e-5)
        nearest = bound * (1 - min(0.9, 14 / self.count) - rounding)
        if not nearest <= self.largest <= bound * (1 + rounding):
            return False
        spread = bound / math.sqrt(3)
        if abs(self.mean) > 4 * spread / math.sqrt(self.count) + rounding * bound:
            return False
        if abs(self.std**2 / spread**2 - 1) > 4 * 0.9 / math.sqrt(self.count) + 4 * rounding:
            return False
        return self._follows(lambda value: (value + bound) / (2 * bound), rounding)

    def normal_with(self, spread: float) -> bool:
        """Whether the values look drawn from the normal distribution of mean 0 and this standard deviation."""
        if not self.count or self.non_finite or spread <= 0:
            return False
        rounding = {"float16": 1e-3, "bfloat16": 8e-3}.get(self.dtype, 1e-5)
        if abs(self.mean) > 4 * spread / math.sqrt(self.count) + rounding * spread:
            return False
        if abs(self.std / spread - 1) > 4 / math.sqrt(2 * self.count) + rounding:
            return False
        return self._follows(lambda value: 0.5 + 0.5 * math.erf(value / (spread * math.sqrt(2))), rounding)

    def _follows(self, share_below: Callable[[float], float], rounding: float) -> bool:
        """Kolmogorov-Smirnov at about 0.1 %, at the quantiles of the sample."""
        steps = max(1, len(self.quantiles) - 1)
        gaps = (abs(share_below(q) - index / steps) for index, q in enumerate(self.quantiles) if 0 < index < steps)
        # The limit adds what lies between two sample values at an end.
        return max(gaps, default=0.0) <= 1.95 / math.sqrt(min(self.count, 4096)) + 1 / self.count + rounding


@dataclass(frozen=True)
class WeightStats(Evidence):
    """All tensors that could be read, in the order of the file; `unread` are names and reasons of the others."""

    tensors: tuple[TensorStats, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()

    @property
    def weights(self) -> tuple[TensorStats, ...]:
        """The model's own tensors."""
        return tuple(tensor for tensor in self.tensors if tensor.role != "other")

    @cached_property
    def _by_name(self) -> dict[str, TensorStats]:
        return {tensor.name: tensor for tensor in self.weights}

    def named(self) -> dict[str, TensorStats]:
        """The model's own tensors by name."""
        return self._by_name

    def initial_bound(self, tensor: TensorStats) -> float | None:
        """The bound of the uniform distribution from which torch.nn draws a weight of this name and shape, where it is
        one of Linear, Conv, or a recurrent layer, also under the names that the older ONNX exporter gives to what it
        folds or transposes.
        """
        rewritten = re.fullmatch(r"onnx::(Conv|MatMul)_\d+", tensor.name)
        if rewritten and len(tensor.shape) == 2 and rewritten[1] == "MatMul":
            return 1 / math.sqrt(tensor.shape[0]) if tensor.shape[0] else None
        if rewritten and len(tensor.shape) > 2 and math.prod(tensor.shape[1:]):
            return 1 / math.sqrt(math.prod(tensor.shape[1:]))
        prefix, _, last = tensor.name.rpartition(".")
        recurrent = re.fullmatch(r"weight_[ih]h(_l\d+(_reverse)?)?", last)
        if recurrent and len(tensor.shape) == 2:
            inner = self.named().get(f"{prefix}.{last}".lstrip(".").replace("weight_ih", "weight_hh"))
            return 1 / math.sqrt(inner.shape[1]) if inner is not None and len(inner.shape) == 2 else None
        fan_in = math.prod(tensor.shape[1:])
        return 1 / math.sqrt(fan_in) if last == "weight" and len(tensor.shape) >= 2 and fan_in else None

    def twins(self) -> tuple[tuple[TensorStats, ...], ...]:
        """Groups of the model's tensors in storages of their own that hold the same bytes."""
        groups: dict[tuple[str, str, tuple[int, ...]], dict[str, TensorStats]] = defaultdict(dict)
        for tensor in self.weights:
            if tensor.digest:
                groups[tensor.digest, tensor.dtype, tensor.shape].setdefault(tensor.storage, tensor)
        return tuple(tuple(group.values()) for group in groups.values() if len(group) > 1)


@probe
def weight_stats(source: ArtifactSource, contents: ArtifactContents) -> WeightStats:
    """Read every tensor once; those whose numbers agree are read again to compare their bytes."""
    from doctor.formats import numbers

    present = {file.path for file in source.files} | {tensor.file for tensor in contents.tensors}
    root = Path(source.root)
    entries = [tensor for tensor in contents.tensors if tensor.file in present]
    seen = numbers.moments(root, entries)
    stats = [_stats(entry, found) for entry, found in zip(entries, seen, strict=True) if found is not None]
    digests = _digests(root, entries, stats)
    unread = tuple((entry.name, entry.unread or f"numbers of type {entry.dtype}") for entry in entries if entry.unread)
    return WeightStats(tuple(_with_digest(tensor, digests) for tensor in stats), unread)


def _stats(entry: TensorEntry, found: object) -> TensorStats:
    import numpy as np

    from doctor.formats.numbers import Moments

    assert isinstance(found, Moments)
    finite = found.count - found.nan - found.infinite
    mean = found.total / finite if finite else 0.0
    variance = max(0.0, found.squares / finite - mean * mean) if finite else 0.0
    sample = np.concatenate(found.sample) if found.sample else np.empty(0)
    sample = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    cuts = np.quantile(sample.astype(np.float64), np.linspace(0, 1, _QUANTILES)) if sample.size >= 8 else ()
    return TensorStats(
        name=entry.name,
        dtype=entry.dtype,
        shape=entry.shape,
        file=entry.file,
        role=entry.role,
        storage=entry.storage,
        count=found.count,
        nan=found.nan,
        infinite=found.infinite,
        low=found.low if finite else 0.0,
        high=found.high if finite else 0.0,
        mean=mean,
        std=math.sqrt(variance) if math.isfinite(variance) else math.inf,
        at_limit=found.at_limit,
        subnormal_share=found.subnormal / found.sampled if found.sampled else 0.0,
        quantiles=tuple(float(cut) for cut in cuts),
    )


def _digests(root: Path, entries: Iterable[TensorEntry], stats: list[TensorStats]) -> dict[tuple[str, str], str]:
    """128-bit digests of the tensors that others may equal, by file and name."""
    from doctor.formats.files import Window

    alike: dict[tuple[object, ...], list[TensorStats]] = defaultdict(list)
    for tensor in stats:
        if not tensor.constant:
            key = (tensor.dtype, tensor.shape, tensor.low, tensor.high, tensor.mean, tensor.std, tensor.nan)
            alike[key].append(tensor)
    wanted = {
        (tensor.file, tensor.name)
        for group in alike.values()
        if len({tensor.storage for tensor in group}) > 1
        for tensor in group
    }
    digests: dict[tuple[str, str], str] = {}
    for entry in entries:
        if (entry.file, entry.name) in wanted and entry.strides is None:
            state = hashlib.blake2b(digest_size=16)
            with Window(root / entry.file) as window:
                for chunk in window.chunks(entry.offset, entry.nbytes):
                    state.update(chunk)
            digests[entry.file, entry.name] = state.hexdigest()
    return digests


def _with_digest(tensor: TensorStats, digests: dict[tuple[str, str], str]) -> TensorStats:
    digest = digests.get((tensor.file, tensor.name))
    return replace(tensor, digest=digest) if digest else tensor
