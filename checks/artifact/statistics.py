"""Running statistics of normalisation layers that the artifact lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.reference_model import ReferenceModel
from doctor.evidence.weight_stats import WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check

from ._names import listed

_STATE_DICTS = ("safetensors", "sharded", "torch-zip", "torch-legacy", "huggingface")
_BATCH_NORM = re.compile(r"(^|[._])(bn_?\d*|batch_?norm(alization)?_?\d*)\.weight$", re.IGNORECASE)
_PARTS = ("running_mean", "running_var")


@check(
    "WGT003",
    "missing-buffers",
    Severity.ERROR,
    faq="deployment/parameters/missing",
)
def missing_buffers(
    source: ArtifactSource, contents: ArtifactContents, weights: WeightStats, reference: ReferenceModel | None
) -> Iterator[Finding]:
    """Running statistics of batch normalisation are absent, or still 0 and 1 though the layer was trained.

    ## What it measures
    For every layer that has one of `running_mean` and `running_var`: whether it has the other, whether its statistics
    are exactly 0 and 1 while its own weight has left its initial value, and whether layers like it in the same file have
    them. With a reference model: every buffer of its state dict.
    ## Why it hurts
    In evaluation the layer normalises by these numbers: activations have another scale than in training.
    ## Example
    ```python
    torch.save(dict(model.named_parameters()), "model.pt")  # parameters, and no buffers
    ```
    ## Use instead
    ```python
    torch.save(model.state_dict(), "model.pt")
    ```
    ## When it is right
    Without a reference, layers that are called `bn` or `batch_norm` and have weights but no statistics in the whole file
    are a warning: the name may be wrong. `track_running_stats=False` has no statistics in any layer, and in the reference model neither.
    ## References
    Ioffe and Szegedy, "Batch Normalization" (2015); torch.nn.BatchNorm2d.
    """
    named = weights.named()
    keys = {tensor.name for tensor in contents.weights}
    prefixes = sorted({key.rpartition(".")[0] for key in keys if key.rpartition(".")[2] in _PARTS})
    for prefix in prefixes:
        join = f"{prefix}." if prefix else ""
        absent = [part for part in _PARTS if f"{join}{part}" not in keys]
        if absent:
            yield Finding(
                message=f"{join}{absent[0]} is missing, though its other half is there",
                location=Location(path=_file(contents), tensor=f"{join}{absent[0]}"),
                measured={"missing": Measure(value=1, threshold=0)},
                remedy="save the whole state dict",
            )
    if not prefixes and reference is None and source.format in _STATE_DICTS:
        yield from _named_so(contents, keys)
    fresh = []
    for prefix in prefixes:
        join = f"{prefix}." if prefix else ""
        mean, variance = named.get(f"{join}running_mean"), named.get(f"{join}running_var")
        weight, bias = named.get(f"{join}weight"), named.get(f"{join}bias")
        if mean is None or variance is None or not (mean.holds_only(0.0) and variance.holds_only(1.0)):
            continue
        trained = (weight is not None and not weight.holds_only(1.0)) or (bias is not None and not bias.holds_only(0.0))
        if trained and mean.count > 1:
            fresh.append(f"{join}running_mean")
    if fresh:
        yield Finding(
            message=f"the running statistics of {len(fresh)} of {len(prefixes)} layers are exactly 0 and 1, though "
            "the layers were trained",
            location=Location(path=_file(contents), tensor=fresh[0]),
            measured={"layers": Measure(value=len(fresh), threshold=0, unit=f"of {len(prefixes)}")},
            remedy="export the statistics of the training (model.state_dict()), not those of a fresh model",
        )


def _named_so(contents: ArtifactContents, keys: set[str]) -> Iterator[Finding]:
    """Layers whose name says batch normalisation, and that have a weight and a bias alone."""
    vectors = {tensor.name for tensor in contents.weights if len(tensor.shape) == 1}
    layers = [key.removesuffix(".weight") for key in sorted(vectors) if _BATCH_NORM.search(key)]
    layers = [layer for layer in layers if f"{layer}.bias" in vectors and f"{layer}.num_batches_tracked" not in keys]
    if layers:
        yield Finding(
            message=f"no layer has running statistics, though {len(layers)} are called batch normalisation: "
            f"{listed(layers, 3)}",
            location=Location(path=_file(contents), tensor=f"{layers[0]}.running_mean"),
            measured={"layers": Measure(value=len(layers), threshold=0)},
            severity=Severity.WARNING,
            remedy="save model.state_dict(), which holds the buffers, not model.named_parameters()",
        )


def _file(contents: ArtifactContents) -> str | None:
    return contents.weights[0].file if contents.weights else None
