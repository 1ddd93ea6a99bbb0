"""The artifact's keys against those of the reference model, and what its keys tell by themselves."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.reference_model import Comparison, ReferenceModel, adapted, quantises
from doctor.evidence.weight_stats import WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check, look

# Formats whose names are those of the state dict; an ONNX graph renames, folds and transposes.
_NAMED = ("safetensors", "sharded", "torch-zip", "torch-legacy", "torch-tar", "torchscript", "pt2", "huggingface")
_ADAPTER = re.compile(r"(^|\.)(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|hada_w\d|lokr_w\d|ia3_l)(\.|$)")
# Files that were not read to their end: what they lack is a symptom.
_UNREAD = ("truncated-file", "corrupt-file", "malformed-header", "path-traversal")
_STATISTICS = ("running_mean", "running_var")
_TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float8_e4m3fn": 0.1, "float8_e5m2": 0.2}  # relative rms of rounding


def _names(contents: ArtifactContents) -> dict[str, TensorEntry]:
    graphs = contents.facts.get("onnx", {}).keys() | set(contents.facts.get("external", ()))
    return {
        tensor.name: tensor
        for tensor in contents.weights
        if not tensor.name.startswith("constants.") and tensor.file not in graphs
    }


def _comparable(source: ArtifactSource, names: dict[str, TensorEntry]) -> bool:
    return source.format in _NAMED and bool(names)


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
    names = _names(contents)
    if not _comparable(source, names):
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
        if not (_ADAPTER.search(name) or _older(name, reference) or quantises(aligned[name], names))
    ]
    if unexpected and len(unexpected) < len(names):
        yield Finding(
            message=f"{len(unexpected)} of {len(names)} tensors are not in the reference model: {_listed(unexpected)}",
            location=Location(path=source.files[0].path, tensor=aligned[unexpected[0]]),
            measured={"unexpected": Measure(value=len(unexpected), threshold=0)},
            remedy="export again from the current code",
            faults=("stale-artifact",),
        )
    elif unexpected:
        yield Finding(
            message=f"none of its {len(names)} tensors is in the reference model {reference.kind} "
            f"({_listed(unexpected, 3)} against {_listed(list(reference.state), 3)})",
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
            f"while the others agree: {_listed(different)}, by {found.relative:.2g} of its size",
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


@check(
    "MOD002",
    "missing-keys",
    Severity.ERROR,
    faq="deployment/architecture/missing",
    faults=("silent-missing-keys",),
)
def missing_keys(source: ArtifactSource, contents: ArtifactContents, reference: ReferenceModel) -> Iterator[Finding]:
    """Parameters of the reference model are not in the artifact.

    ## What it measures
    The keys of the reference's state dict against the artifact's, after a common prefix is taken off. Of tied weights one
    name is enough; buffers are WGT003.
    ## Why it hurts
    `load_state_dict(..., strict=False)` and many loaders leave the missing layers at random values and say nothing.
    ## Example
    ```python
    save_file({k: v for k, v in model.state_dict().items() if k.startswith("encoder")}, "model.safetensors")
    ```
    ## Use instead
    ```python
    save_file(model.state_dict(), "model.safetensors")
    ```
    ## When it is right
    For a backbone that is shipped without its head: give the backbone's factory as the reference. An adapter with its
    adapter_config.json is not expected to hold the base model.
    ## References
    torch.nn.Module.load_state_dict, `strict`.
    """
    names = _names(contents)
    if not _comparable(source, names):
        return
    missing = [name for name in reference.missing(names) if reference.state[name].parameter]
    adapters = sum(bool(_ADAPTER.search(name)) for name in names)
    if not missing or len(missing) == len(reference.state) or adapters * 2 > len(names):
        return
    modules = sorted({name.partition(".")[0] for name in missing})
    yield Finding(
        message=f"{len(missing)} of {len(reference.state)} tensors of the reference are missing: {_listed(missing)}",
        location=Location(path=source.files[0].path, module=modules[0], tensor=missing[0]),
        measured={"missing": Measure(value=len(missing), threshold=0, unit=f"of {len(reference.state)}")},
        remedy="export the whole state dict, and load with strict=True",
        follows_from=_UNREAD,
    )


@look("WGT003")
def missing_reference_buffers(
    source: ArtifactSource, contents: ArtifactContents, reference: ReferenceModel
) -> Iterator[Finding]:
    """Buffers of the reference's state dict that the artifact lacks."""
    names = _names(contents)
    if not _comparable(source, names):
        return
    missing = [name for name in reference.missing(names) if not reference.state[name].parameter]
    if len(reference.missing(names)) == len(reference.state):
        return
    counters = [name for name in missing if name.endswith("num_batches_tracked")]
    gone = {name.rpartition(".")[0] for name in reference.missing(names) if reference.state[name].parameter}
    missing = [name for name in missing if name not in counters and name.rpartition(".")[0] not in gone]
    if missing:
        statistics = sum(name.endswith(_STATISTICS) for name in missing)
        words = f", {statistics} of them running statistics" if statistics else ""
        yield Finding(
            message=f"{len(missing)} buffers of the reference are missing{words}: {_listed(missing)}",
            location=Location(path=source.files[0].path, tensor=missing[0]),
            measured={"missing": Measure(value=len(missing), threshold=0)},
            remedy="save model.state_dict(), which holds the buffers, not model.named_parameters()",
            follows_from=(*_UNREAD, "missing-preprocessing"),
        )
    elif counters and not gone:
        yield Finding(
            message=f"{len(counters)} counters num_batches_tracked are missing; evaluation does not need them",
            severity=Severity.INFO,
            location=Location(path=source.files[0].path, tensor=counters[0]),
            measured={"missing": Measure(value=len(counters), threshold=0)},
            remedy="save model.state_dict()",
        )


@look("WGT005")
def untrained_against_reference(
    weights: WeightStats, contents: ArtifactContents, reference: ReferenceModel
) -> Iterator[Finding]:
    """A layer that is as drawn in the artifact and trained in the reference."""
    stats = weights.named()
    aligned = reference.aligned(tensor.name for tensor in contents.weights)
    for name, comparison in reference.compared.items():
        found = stats.get(aligned[name])
        bound = weights.initial_bound(found) if found is not None else None
        if found is None or bound is None or found.count < 16:
            continue
        if comparison.relative > 0.2 and found.uniform_within(bound) and comparison.size:
            yield Finding(
                message=f"its {found.count} weights are uniform within ±{bound:.4g}, as torch.nn draws them; the "
                f"reference's trained ones differ by {comparison.relative:.2g} of their size",
                severity=Severity.ERROR,
                location=Location(path=found.file, tensor=found.name),
                measured={"largest": Measure(value=found.largest, threshold=bound)},
                remedy="export the trained layer",
            )


@check(
    "MOD003",
    "key-prefix-mismatch",
    Severity.ERROR,
    faq=("deployment/architecture/duplicated", "deployment/parameters/incorrect"),
    faults=("key-prefix-mismatch", "unmerged-adapter", "untied-weights"),
)
def key_prefix(
    source: ArtifactSource, contents: ArtifactContents, weights: WeightStats | None, reference: ReferenceModel | None
) -> Iterator[Finding]:
    """The keys are those of a wrapped, adapted or untied model.

    ## What it measures
    Prefixes that stand before every key (`module.` of data parallelism, `_orig_mod.` of torch.compile; with a reference
    any prefix that its keys have not); keys of adapters (`lora_A`, `lora_B`) beside base weights; entries that are tied
    in the reference, or by `tie_word_embeddings` in the configuration, and hold different numbers.
    ## Why it hurts
    Not one key fits: strict loading stops, and loading that is not strict keeps every layer at random values.
    ## Example
    ```python
    model = torch.compile(nn.parallel.DistributedDataParallel(model))
    torch.save(model.state_dict(), "model.pt")
    ```
    ## Use instead
    ```python
    raw = model._orig_mod if hasattr(model, "_orig_mod") else model
    torch.save(raw.module.state_dict(), "model.pt")
    ```
    ## When it is right
    A prefix that is the model's own attribute (`model.` in transformers and Lightning) is found only with a reference
    that lacks it. TorchScript and torch.export programs bring their own code, and wrappers are usual there (info). An
    adapter that is shipped alone comes with its adapter_config.json.
    ## References
    torch.nn.parallel.DistributedDataParallel; torch.compile; PEFT, `merge_and_unload`.
    """
    names = _names(contents)
    if not _comparable(source, names):
        return
    where = Location(path=source.files[0].path, tensor=next(iter(names)))
    adapters = [name for name in names if _ADAPTER.search(name)]
    if adapters:
        yield from _adapters(source, contents, names, adapters, reference)
    prefix = reference.prefix if reference is not None else _wrapper(names)
    if prefix:
        lacks = prefix.startswith("-")
        touched = len(reference.state) if reference is not None else len(names)
        yield Finding(
            message=f'the keys {"lack" if lacks else "have"} "{prefix.lstrip("-")}" in front: none of the {touched} keys '
            f"fits ({_listed(list(names), 2)})",
            # A program carries its own code: its keys are seldom loaded, and an exporter wraps for other outputs.
            severity=Severity.INFO if source.format in ("torchscript", "pt2") else None,
            location=where,
            measured={"keys": Measure(value=len(names), threshold=0)},
            remedy="save the state dict of the unwrapped model, or rename the keys and load with strict=True",
            faults=("key-prefix-mismatch",),
        )
    yield from _doubled(names, where)
    if weights is not None:
        yield from _untied(contents, weights, names, reference)


def _wrapper(names: dict[str, TensorEntry]) -> str:
    """A wrapper's prefix that every key has; averaged models have `module.` by design, and their own counter."""
    if "n_averaged" in names:
        return ""
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."):
        if all(name.startswith(prefix) for name in names):
            return prefix
    return "_orig_mod." if any("_orig_mod." in name for name in names) else ""


def _adapters(
    source: ArtifactSource,
    contents: ArtifactContents,
    names: dict[str, TensorEntry],
    adapters: list[str],
    reference: ReferenceModel | None,
) -> Iterator[Finding]:
    expected = reference is not None and any(_ADAPTER.search(name) for name in reference.state)
    base = [name for name in names if name not in adapters]
    alone = len(base) <= len(adapters) and bool(contents.facts.get("adapter_config")) and reference is None
    if expected:
        return
    words = f"beside {len(base)} of the base model" if base else "and nothing of the base model"
    yield Finding(
        message=f"{len(adapters)} tensors of an adapter are stored {words}: {_listed(adapters, 3)}",
        severity=Severity.INFO if alone else None,
        location=Location(path=names[adapters[0]].file, tensor=adapters[0]),
        measured={"adapters": Measure(value=len(adapters), threshold=0)},
        remedy="merge the adapter before exporting (merge_and_unload), or ship it with its adapter_config.json",
        faults=("unmerged-adapter",),
    )


def _doubled(names: dict[str, TensorEntry], where: Location) -> Iterator[Finding]:
    """The same model twice in one file, once behind a prefix."""
    for prefix in ("module.", "_orig_mod.", "model.", "net."):
        twice = [name for name in names if not name.startswith(prefix) and prefix + name in names]
        if len(twice) >= 2 and len(twice) * 3 >= len(names):
            yield Finding(
                message=f'{len(twice)} tensors are stored twice, with "{prefix}" in front and without it',
                location=where,
                measured={"tensors": Measure(value=len(twice), threshold=0)},
                remedy="export one copy",
                faults=("key-prefix-mismatch", "duplicate-tensors"),
            )


def _untied(
    contents: ArtifactContents, weights: WeightStats, names: dict[str, TensorEntry], reference: ReferenceModel | None
) -> Iterator[Finding]:
    groups: list[list[str]] = []
    if reference is not None:
        held = {adapted(name, reference.prefix): name for name in names}
        groups = [[held[name] for name in group if name in held] for group in reference.ties]
    config = contents.facts.get("configs", {}).get("config.json", {})
    if reference is None and config.get("tie_word_embeddings") is True:
        heads = [name for name in names if re.search(r"(^|\.)(lm_head|output_projection)\.weight$", name)]
        tables = [name for name in names if re.search(r"(embed_tokens|wte|word_embeddings|shared)\.weight$", name)]
        groups = [[*heads, *tables]] if heads and len(tables) == 1 else []
    stats = weights.named()
    for group in groups:
        kinds: dict[object, list[str]] = defaultdict(list)
        for name in group:
            found = stats.get(name)
            if found is not None:
                kinds[found.digest or found.storage].append(name)
        if len(kinds) > 1:
            first, second, *_ = (members[0] for members in kinds.values())
            yield Finding(
                message=f"{first} and {second} are one weight in the model and hold different numbers in the file",
                location=Location(path=names[first].file, tensor=second),
                measured={"weights": Measure(value=len(kinds), threshold=1)},
                remedy="tie the weights before exporting (model.tie_weights()), and export one of them",
                faults=("untied-weights",),
            )
