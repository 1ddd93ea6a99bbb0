"""How far two outputs lie apart, on the scale of the output, and how far they may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from doctor.parity.tensors import Tensors

# Largest error that passes, by the lowest precision on either side: (largest element, root mean square), both as
# shares of the reference output's own scale. docs/parity.md derives and measures them.
TOLERANCES: dict[str, tuple[float, float]] = {
    "float64": (1e-3, 1e-4),
    "float32": (1e-3, 1e-4),
    "float16": (5e-2, 1e-2),
    "bfloat16": (0.3, 5e-2),
    "int8": (0.3, 0.05),  # 26 dB
    "int4": (0.9, 0.15),  # 16 dB
}
_WIDEST = (2.0, 0.316)
_INTEGER_SHARE = {"float64": 0.005, "float32": 0.005, "float16": 0.02, "bfloat16": 0.05, "int8": 0.1, "int4": 0.2}


@dataclass(frozen=True)
class Tolerance:
    """What passes: `largest` and `rms` on the output's scale, `unequal` for whole numbers."""

    precision: str
    largest: float
    rms: float
    unequal: float

    def widened(self, floor: Difference | None) -> Tolerance:
        """No tighter than eight times a measured noise floor, and never so wide that anything passes."""
        if floor is None:
            return self
        largest = max(self.largest, min(8 * floor.largest, _WIDEST[0]))
        return Tolerance(self.precision, largest, max(self.rms, min(8 * floor.rms, _WIDEST[1])), self.unequal)


def tolerance(precision: str, override: float | None = None) -> Tolerance:
    """The tolerance of a precision; `override` replaces the largest error that passes."""
    largest, rms = TOLERANCES[precision]
    if override is not None:
        largest, rms = override, override
    return Tolerance(precision, largest, rms, _INTEGER_SHARE[precision])


@dataclass(frozen=True)
class Difference:
    """One output against the reference's.

    `largest` and `rms` are errors divided by `scale` (the reference output's standard deviation, or a tenth of its
    mean magnitude where that is more); for whole numbers both are the share that is unequal. `broken` counts elements
    that are finite on one side only. `decisions` is the share of rows with the same largest entry.
    """

    output: str
    artifact_output: str
    shape: tuple[int, ...]
    artifact_shape: tuple[int, ...]
    max_abs: float = 0.0
    max_rel: float = 0.0
    scale: float = 1.0
    largest: float = 0.0
    rms: float = 0.0
    broken: int = 0
    whole: bool = False
    decisions: float | None = None

    def within(self, limits: Tolerance) -> bool:
        """Whether it passes."""
        if self.shape != self.artifact_shape or self.broken:
            return False
        if self.whole:
            return self.rms <= limits.unequal
        return self.largest <= limits.largest and self.rms <= limits.rms

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def difference(
    reference: torch.Tensor, artifact: torch.Tensor, names: tuple[str, str] = ("", ""), least: float = 1e-9
) -> Difference:
    """Compare two tensors; shapes that differ by axes of size 1 only are compared as one. `least` bounds the scale."""
    shapes = tuple(reference.shape), tuple(artifact.shape)
    if shapes[0] != shapes[1]:
        if [size for size in shapes[0] if size != 1] != [size for size in shapes[1] if size != 1]:
            return Difference(*names, *shapes, largest=float("inf"), rms=float("inf"), max_abs=float("inf"))
        artifact, shapes = artifact.reshape(reference.shape), (shapes[0], shapes[0])
    whole = not reference.dtype.is_floating_point and not artifact.dtype.is_floating_point
    if whole and not reference.is_complex():
        share = (reference.to(torch.int64) != artifact.to(torch.int64)).double().mean().nan_to_num().item()
        apart = (reference.double() - artifact.double()).abs().max().item() if reference.numel() else 0.0
        return Difference(*names, *shapes, max_abs=apart, largest=share, rms=share, whole=True)
    if reference.is_complex():
        reference, artifact = torch.view_as_real(reference), torch.view_as_real(artifact)
    a, b = artifact.double(), reference.double()
    fine = a.isfinite() & b.isfinite()
    same = fine | (a == b) | (a.isnan() & b.isnan())
    # -inf and the lowest float both mask; a mask on one side is no broken number on the other.
    same |= ((a < -1e30) & (b < -1e30)) | ((a > 1e30) & (b > 1e30))
    fine &= (b.abs() < 1e30) & (a.abs() < 1e30)
    one, other = a[fine], b[fine]
    if not one.numel():
        return Difference(*names, *shapes, broken=int((~same).sum()))
    apart_by = (one - other).abs()
    spread = other.std(correction=0).item()
    scale = max(spread, 0.1 * other.abs().mean().item(), least)
    return Difference(
        *names,
        *shapes,
        max_abs=apart_by.max().item(),
        max_rel=(apart_by / other.abs().clamp_min(1e-12)).max().item(),
        scale=scale,
        largest=apart_by.max().item() / scale,
        rms=apart_by.square().mean().sqrt().item() / scale,
        broken=int((~same).sum()),
        decisions=_decisions(reference, artifact),
    )


def _decisions(reference: torch.Tensor, artifact: torch.Tensor) -> float | None:
    if reference.dim() < 2 or reference.shape[-1] < 2 or not reference.dtype.is_floating_point:
        return None
    return (reference.argmax(-1) == artifact.argmax(-1)).double().mean().item()


def paired(reference: Tensors, artifact: Tensors) -> list[tuple[str, str]]:
    """Which output answers which: by name where the artifact's names are the reference's, else by position; where one side
    has more, to each of the other's the next of the same shape.
    """
    if set(artifact) <= set(reference):
        return [(name, name) for name in artifact]
    if set(reference) <= set(artifact):
        return [(name, name) for name in reference]
    if len(reference) <= len(artifact):
        return list(zip(reference, artifact, strict=False))
    pairs, left = [], list(reference)
    for name in artifact:
        alike = [other for other in left if reference[other].shape == artifact[name].shape]
        pairs.append(((alike or left)[0], name))
        left.remove(pairs[-1][0])
    return pairs


def compared(reference: Tensors, artifact: Tensors, scales: Mapping[str, float] | None = None) -> list[Difference]:
    """All paired outputs compared, on no smaller a scale than the one given for the output."""
    least = scales or {}
    return [
        difference(reference[one], artifact[other], (one, other), least.get(one, 1e-9))
        for one, other in paired(reference, artifact)
    ]


def agree(reference: Tensors, artifact: Tensors, limits: Tolerance) -> bool:
    """Whether all paired outputs are within the tolerance, and there are any."""
    found = compared(reference, artifact)
    return bool(found) and all(each.within(limits) for each in found)


def worst(found: list[Difference]) -> Difference:
    """The one that lies furthest apart."""
    return max(found, key=lambda each: (each.broken > 0, each.shape != each.artifact_shape, each.rms, each.largest))
