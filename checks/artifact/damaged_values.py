"""Numbers that no training gives: damaged bytes in a file without checksums."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.weight_stats import TensorStats, WeightStats
from doctor.findings import Finding, Location, Measure
from doctor.registry import look

_SMALLEST = 32  # values below which the bulk is not known
_BEYOND = 1e9  # times the bulk
_IMPLAUSIBLE = 1e12  # magnitude that no weight, statistic or counter has


@look("FIL001")
def damaged_values(weights: WeightStats) -> Iterator[Finding]:
    """A few values of a weight are larger than the others by many orders of magnitude: flipped bits of an exponent."""
    hit = [tensor for tensor in weights.weights if _damaged(tensor)]
    if hit:
        first = hit[0]
        more = f" (and {len(hit) - 1} more tensors)" if len(hit) > 1 else ""
        yield Finding(
            message=f"values up to {first.largest:.2g} lie among values of {_bulk(first):.2g}: damaged bytes{more}",
            location=Location(path=first.file, tensor=first.name),
            measured={"largest": Measure(value=first.largest, threshold=max(_IMPLAUSIBLE, _BEYOND * _bulk(first)))},
            remedy="copy or export the file again, and compare checksums",
            faults=("corrupt-file",),
        )


def _damaged(tensor: TensorStats) -> bool:
    if not tensor.floating or tensor.count < _SMALLEST or len(tensor.quantiles) < 3:
        return False
    bulk = _bulk(tensor)
    beyond = tensor.largest > max(_IMPLAUSIBLE, _BEYOND * bulk)
    return beyond and bulk > 0 and not all(map(_chosen, (tensor.low, tensor.high)))


def _bulk(tensor: TensorStats) -> float:
    """How large the values are, but for the outermost thirtieths."""
    return max(abs(tensor.quantiles[1]), abs(tensor.quantiles[-2]))


def _chosen(value: float) -> bool:
    """Whether somebody wrote the value: an ordinary one, a power of ten, or the end of a type, as masks have it."""
    size = abs(value)
    ends = (3.4028234663852886e38, 3.3895313892515355e38, 1.7976931348623157e308)
    power = size > 0 and math.isclose(size, 10.0 ** round(math.log10(size)), rel_tol=1e-5)
    return size < _IMPLAUSIBLE or power or any(math.isclose(size, end, rel_tol=1e-5) for end in ends)
