"""Mixed precision as the program uses it."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class AutocastRegion:
    """One line that enters autocast with gradients on; what was asked for, also where the device is missing."""

    device: str
    dtype: str
    entered: int
    source: Source | None = None


@dataclass(frozen=True)
class ScalerUse:
    """What is done with GradScalers. `clips_before_unscale` counts clips of gradients that were still scaled,
    `plain_steps` steps on scaled gradients that do not go through the scaler.
    """

    made: int = 0
    enabled: bool = False
    created: Source | None = None
    scales: int = 0
    unscales: int = 0
    steps: int = 0
    updates: int = 0
    clips_before_unscale: int = 0
    clip_source: Source | None = None
    plain_steps: int = 0
    plain_step_source: Source | None = None
    scale_source: Source | None = None


@dataclass(frozen=True)
class PrecisionLog(Evidence):
    """Autocast regions, scalers, and the share of the parameters that are float16 themselves."""

    regions: tuple[AutocastRegion, ...] = ()
    scaler: ScalerUse = ScalerUse()
    half_share: float = 0.0


@probe
def precision_log(recording: Recording) -> PrecisionLog:
    """Read regions and scalers."""
    regions = tuple(
        AutocastRegion(event["device"], event["dtype"], event["entered"], source(event["line"]))
        for event in recording.of("autocast")
    )
    for event in recording.of("precision"):
        counts = ("made", "enabled", "scales", "unscales", "steps", "updates", "clips_before_unscale", "plain_steps")
        scaler = ScalerUse(
            created=source(event["created"]),
            clip_source=source(event["clip_line"]),
            plain_step_source=source(event["plain_step_line"]),
            scale_source=source(event["scale_line"]),
            **{name: event[name] for name in counts},
        )
        return PrecisionLog(regions, scaler, event["half_share"])
    return PrecisionLog(regions)
