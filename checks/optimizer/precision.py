"""Mixed precision without its scaler, or with it in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.precision_log import PrecisionLog
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check


class PrecisionLimits(Limits):
    """Thresholds of OPT014."""

    min_entries: int = 3  # training forwards under autocast


@check("OPT014", "amp-no-scaler", Severity.WARNING, faq="training/optimizer/missing")
def amp_no_scaler(precision: PrecisionLog, limits: PrecisionLimits) -> Iterator[Finding]:
    """Gradients are computed in float16, and are not scaled (or not unscaled) as float16 needs.

    ## What it measures
    Autocast regions in training with their dtype as asked for, the calls of a `GradScaler`, clips of gradients that are
    still scaled, and steps on scaled gradients that go around the scaler.
    ## Why it hurts
    Gradients below 6e-8 become 0 in float16; a clip before `unscale_` compares its limit with a norm that is 65536 times
    too large; a step on scaled gradients is 65536 times too long.
    ## Example
    ```python
    with torch.autocast("cuda", dtype=torch.float16):
        loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    ```
    ## Use instead
    ```python
    with torch.autocast("cuda", dtype=torch.float16):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    ```
    ## When it is right
    bfloat16 has the range of float32 and needs no scaler: silent. So is autocast that is switched off, and evaluation.
    ## References
    PyTorch, "Automatic Mixed Precision examples": gradient scaling, and clipping after `unscale_`.
    """
    scaler = precision.scaler
    half = [
        region for region in precision.regions if region.dtype == "float16" and region.entered >= limits.min_entries
    ]
    if half and not scaler.scales:
        region = half[0]
        yield _finding(
            f"the forward runs {region.entered} times under float16 autocast, and no GradScaler scales the loss",
            region.source,
            {"entered": Measure(value=region.entered), "scaled": Measure(value=0, threshold=1)},
            "scale the loss with torch.amp.GradScaler, or use bfloat16",
        )
    if scaler.enabled and scaler.plain_steps >= limits.min_entries and not scaler.steps:
        yield _finding(
            f"{scaler.plain_steps} steps use gradients of a scaled loss as they are: optimizer.step() goes around the scaler",
            scaler.plain_step_source,
            {"plain_steps": Measure(value=scaler.plain_steps, threshold=0)},
            "call scaler.step(optimizer) and scaler.update() instead of optimizer.step()",
            Severity.ERROR,
        )
    elif scaler.enabled and scaler.steps >= limits.min_entries and not scaler.updates:
        yield _finding(
            "scaler.update() is never called: the scale never adapts",
            scaler.scale_source,
            {"updates": Measure(value=0, threshold=1)},
            "call scaler.update() after scaler.step(optimizer)",
        )
    if scaler.enabled and scaler.clips_before_unscale >= limits.min_entries:
        yield _finding(
            f"{scaler.clips_before_unscale} clips see gradients that are still scaled",
            scaler.clip_source,
            {"clips_before_unscale": Measure(value=scaler.clips_before_unscale, threshold=0)},
            "call scaler.unscale_(optimizer) before clipping",
        )


def _finding(
    message: str,
    place: Source | None,
    measured: dict[str, Measure],
    remedy: str,
    severity: Severity = Severity.WARNING,
) -> Finding:
    return Finding(
        message=message,
        location=Location(path=place.path, line=place.line) if place else Location(),
        severity=severity,
        measured=measured,
        remedy=remedy,
        demonstrated=message,
    )
