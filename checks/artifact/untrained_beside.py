"""Layers that are as drawn in the artifact and trained in the reference."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.reference_model import ReferenceModel
from doctor.evidence.weight_stats import TensorStats, WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import look

_FEWEST = 16  # values below which a distribution says nothing
_DIFFERS = 0.2  # of the size of the reference's weights
_AGREES = 0.01


@look("WGT005")
def untrained_against_reference(
    weights: WeightStats, contents: ArtifactContents, reference: ReferenceModel
) -> Iterator[Finding]:
    """A layer that is as drawn in the artifact and trained in the reference."""
    stats = weights.named()
    aligned = reference.aligned(tensor.name for tensor in contents.weights)
    agreeing = median([other.relative for other in reference.compared.values()] or [1.0]) < _AGREES
    for name, comparison in reference.compared.items():
        found = stats.get(aligned[name])
        if found is None or found.count < _FEWEST or comparison.relative <= _DIFFERS or not comparison.size:
            continue
        drawn = _as_drawn(found, weights.initial_bound(found), reference.modules.get(name.rpartition(".")[0], ""))
        # The uniform draw has a hard bound; the others also fit tables that were trained a little, elsewhere.
        if drawn and (agreeing or drawn.startswith("uniform")):
            yield Finding(
                message=f"its {found.count} weights are {drawn}, as torch.nn draws them; the "
                f"reference's trained ones differ by {comparison.relative:.2g} of their size",
                severity=Severity.ERROR,
                location=Location(path=found.file, tensor=found.name),
                measured={
                    "largest": Measure(value=found.largest),
                    "difference": Measure(value=comparison.relative, threshold=_DIFFERS),
                },
                remedy="export the trained layer",
            )


def _as_drawn(tensor: TensorStats, bound: float | None, layer: str) -> str:
    """How torch.nn draws such a weight, if it looks so."""
    if bound is not None and tensor.uniform_within(bound):
        return f"uniform within ±{bound:.4g}"
    if layer.startswith("Embedding") and tensor.normal_with(1.0):
        return "normal of deviation 1"
    if "Norm" in layer and tensor.name.rpartition(".")[2] == "weight" and tensor.holds_only(1.0):
        return "all 1"
    return ""
