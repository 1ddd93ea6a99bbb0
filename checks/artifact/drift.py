"""The artifact's tensors against those of the reference: shapes, names that it has not, and trained values."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.reference_model import Comparison, ReferenceModel, quantises
from doctor.evidence.weight_stats import WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

from ._names import ADAPTER, comparable, listed, named

_TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float8_e4m3fn": 0.1, "float8_e5m2": 0.2}  # relative rms of rounding


class DriftLimits(Limits):
    """Thresholds of MOD001."""

    coarse: float = 0.1  # relative rms of a quantised tensor; four bits with one scale a channel have about 0.1
    smallest: int = 16  # values of a tensor whose numbers are compared


@check(
    "MOD001",
    "architecture-drift",
    Severity.ERROR,
    faq=("deployment/architecture/incorrect", "deployment/architecture/duplicated"),
    faults=("stale-artifact", "shape-mismatch"),
)
def architecture_drift(
    source: ArtifactSource,
    contents: ArtifactContents,
    reference: ReferenceModel,
    weights: WeightStats | None,
    limits: DriftLimits,
) -> Iterator[Finding]:
    """The artifact belongs to another version of the model than the training code builds.

    ## What it measures
    Against the state dict of the reference: tensors of other shapes, tensors that the reference has not, and, where some
    tensors agree with the reference's own trained values up to rounding, the tensors that do not. Names are compared
    after a common prefix is taken off. Entries that only older versions wrote (`num_batches_tracked`, buffers that are
    no longer saved) are left out, and ONNX graphs, whose exporters rename.
    ## Why it hurts
    Loading stops in production, or goes on without the layers that do not fit.
    ## Example
    ```python
    class Net(nn.Module):  # hidden was 128 when model.safetensors was written
        def __init__(self, hidden=256): ...
    ```
    ## Use instead
    ```python
    class Net(nn.Module):
        def __init__(self, hidden=config["hidden"]): ...  # the configuration is saved beside the weights
    ```
    ## When it is right
    When the reference is the newer version on purpose: give the factory that belongs to the artifact.
    ## References
    torch.nn.Module.load_state_dict, `strict`.
    """
    names = named(contents)
    if not comparable(source, names):
        return
    aligned = reference.aligned(names)
    other_shapes = [
        name
        for name, own in aligned.items()
        if name in reference.state and names[own].shape != reference.state[name].shape and not _packed(names[own])
    ]
    for name in other_shapes[:10]:
        entry = names[aligned[name]]
        yield Finding(
            message=f"its shape is {_shape(entry.shape)}, the reference's {_shape(reference.state[name].shape)}"
            + (f" ({len(other_shapes)} tensors differ in shape)" if len(other_shapes) > 1 else ""),
            location=Location(path=entry.file, tensor=entry.name),
            measured={"shapes": Measure(value=len(other_shapes), threshold=0)},
            remedy="export again from the current code, or build the reference with the artifact's settings",
            faults=("shape-mismatch", "stale-artifact"),
        )
    unexpected = [
        name
        for name in reference.unexpected(names)
        if not (ADAPTER.search(name) or _older(name, reference) or quantises(aligned[name], names))
    ]
    if unexpected and len(unexpected) < len(names):
        yield Finding(
            message=f"{len(unexpected)} of {len(names)} tensors are not in the reference model: {listed(unexpected)}",
            location=Location(path=source.files[0].path, tensor=aligned[unexpected[0]]),
            measured={"unexpected": Measure(value=len(unexpected), threshold=0)},
            remedy="export again from the current code",
            faults=("stale-artifact",),
            follows_from=("unmerged-adapter",),
        )
    elif unexpected:
        yield Finding(
            message=f"none of its {len(names)} tensors is in the reference model {reference.kind} "
            f"({listed(unexpected, 3)} against {listed(list(reference.state), 3)})",
            location=Location(path=source.files[0].path, tensor=aligned[unexpected[0]]),
            measured={"unexpected": Measure(value=len(unexpected), threshold=0)},
            remedy="give the factory of the model that was exported",
            faults=("stale-artifact",),
        )
    known = {problem.place for problem in contents.problems} | _untrained(weights)
    yield from _other_values(names, aligned, reference, limits, known)


def _untrained(weights: WeightStats | None) -> set[str | None]:
    """Layers at their initial values, weight and bias: another rule's."""
    found: set[str | None] = set()
    for tensor in weights.weights if weights is not None else ():
        bound = weights.initial_bound(tensor) if weights is not None else None
        if bound is not None and tensor.count >= 16 and tensor.uniform_within(bound):
            found |= {tensor.name, tensor.name.replace("weight", "bias")}
    return found


def _other_values(
    names: dict[str, TensorEntry],
    aligned: dict[str, str],
    reference: ReferenceModel,
    limits: DriftLimits,
    told_elsewhere: set[str | None],
) -> Iterator[Finding]:
    """Tensors that differ from the reference's trained values though others agree with theirs."""
    same, different, coarse = [], [], []
    for name, comparison in reference.compared.items():
        entry = names.get(aligned.get(name, ""))  # a tensor of a graph beside the state dict is none of its
        if entry is None or entry.numel < limits.smallest or entry.name in told_elsewhere:
            continue
        if comparison.relative <= _TOLERANCE.get(entry.dtype, 1e-3):
            same.append(name)
        elif (
            "int8" in entry.dtype
            or "float8" in entry.dtype
            or (comparison.relative < 0.7 and _on_levels(comparison, entry))
        ):
            coarse.append(name)
        else:
            different.append(name)
    agreed = len(same) + len(coarse)
    bad = [name for name in coarse if reference.compared[name].relative > limits.coarse]
    if bad:
        worst = max(bad, key=lambda name: reference.compared[name].relative)
        found = reference.compared[worst]
        yield Finding(
            message=f"as quantised, with {found.levels} levels, its values differ from the reference's by "
            f"{found.relative:.0%} (root mean square); so do {len(bad)} of {len(coarse)} quantised tensors",
            location=Location(path=names[aligned[worst]].file, tensor=aligned[worst]),
            measured={"relative_rms": Measure(value=found.relative, threshold=limits.coarse)},
            remedy="quantise with a scale for each channel, or keep this layer in 16 bits",
            faults=("quantization-error",),
        )
    if different and agreed >= max(2, len(different) / 4):
        worst = max(different, key=lambda name: reference.compared[name].relative)
        found = reference.compared[worst]
        yield Finding(
            message=f"{len(different)} of {agreed + len(different)} tensors differ from the reference's trained values "
            f"while the others agree: {listed(different)}, by {found.relative:.2g} of its size",
            location=Location(path=names[aligned[worst]].file, tensor=aligned[worst]),
            measured={"relative_rms": Measure(value=found.relative, threshold=1e-3)},
            remedy="export all tensors from one checkpoint",
            faults=("stale-artifact",),
            follows_from=("untied-weights", "duplicate-tensors", "untrained-layer", "dtype-overflow", "nan-weights"),
        )


def _on_levels(comparison: Comparison, entry: TensorEntry) -> bool:
    """Whether many values share few levels, as after quantisation; what was trained seldom has a number twice."""
    sampled = min(entry.numel, 4096)
    return comparison.levels <= 256 and sampled >= 64 and comparison.levels <= 0.8 * sampled


def _packed(entry: TensorEntry) -> bool:
    return entry.dtype in ("uint8", "int8", "int32", "uint4", "int4") and len(entry.shape) >= 2


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _older(name: str, reference: ReferenceModel) -> bool:
    last = name.rpartition(".")[2]
    if last in ("num_batches_tracked", "n_averaged", "inv_freq", "position_ids", "masked_bias", "_metadata"):
        return True
    return any(name.endswith(f".{known}") or name == known for known in reference.transient)
