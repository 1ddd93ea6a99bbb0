"""How differences are told."""

from __future__ import annotations

from doctor.evidence.artifact_run import ArtifactRun, Outcome, OutputDifference
from doctor.findings import Measure

# Faults of the weights, of their keys and of the export that change what the artifact computes.
CHANGES_OUTPUTS = (
    "nan-weights", "dtype-overflow", "silent-missing-keys", "missing-buffers", "shape-mismatch", "untrained-layer",
    "quantization-error", "duplicate-tensors", "untied-weights", "stale-artifact", "train-mode-export", "swapped-inputs",
    "corrupt-file",
)  # fmt: skip
NOT_FINITE = ("nan-weights", "dtype-overflow", "corrupt-file")


def apart(outcome: Outcome) -> str:
    """How far the worst output lies apart, in words."""
    worst = outcome.worst
    if worst is None:
        return "nothing was compared"
    if not worst.same_shape:
        return f"output {worst.artifact_output} has shape {worst.artifact_shape}, the reference's {worst.shape}"
    if worst.broken:
        return f"{worst.broken} elements of output {worst.artifact_output} are not finite where the reference's are"
    if worst.whole:
        return f"{worst.rms:.1%} of output {worst.artifact_output} are other numbers"
    return (
        f"output {worst.artifact_output} differs by up to {worst.max_abs:.3g}, "
        f"{worst.largest:.2g} of the output's standard deviation"
    )


def measures(outcome: Outcome, run: ArtifactRun) -> dict[str, Measure]:
    """The numbers of the worst output with the limits that they were held against."""
    worst = outcome.worst or OutputDifference()
    found = {
        "max_abs_difference": Measure(value=worst.max_abs),
        "largest_error": Measure(
            value=worst.largest, threshold=run.tolerance.largest, unit="of the output's deviation"
        ),
        "rms_error": Measure(value=worst.rms, threshold=run.tolerance.rms, unit="of the output's deviation"),
        "precision": Measure(value=run.tolerance.precision),
    }
    if worst.decisions is not None:
        found["same_decisions"] = Measure(value=worst.decisions, threshold=1.0)
    return found


def shown(names: tuple[str, ...], most: int = 4) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
