"""Images and the dense targets that they are trained with: how many of these lie as their image does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from doctor.evidence.base import Evidence
from doctor.evidence.recording import Recording
from doctor.probes import probe


@dataclass(frozen=True)
class PlanePairs(Evidence):
    """Of `samples` pairs, `kept` tell clearly most of their target where it lies, and `moved` where it is mirrored
    (`left-right`, `up-down`, `both ways`); the rest tell no difference.
    """

    samples: int = 0
    kept: int = 0
    moved: Mapping[str, int] = field(default_factory=dict)


@probe
def plane_pairs(recording: Recording) -> PlanePairs:
    """Read them."""
    event = recording.some("plane-pairs", "no images with dense targets were trained on")[0]
    return PlanePairs(event["samples"], event["kept"], event["moved"])
