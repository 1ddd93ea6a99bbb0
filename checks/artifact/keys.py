"""Keys that the artifact lacks, and keys of a wrapped, adapted or untied model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.evidence.artifact_run import ParityRun
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.io_contract import IOContract
from doctor.evidence.reference_model import ReferenceModel, adapted
from doctor.evidence.weight_stats import WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check, look

from ._names import ADAPTER, UNREAD, comparable, listed, named, packed

_CALLED_SO = re.compile(r"(^|[._])(adapters?|prompt_embeddings|prefix_encoder|ia3)([._]|$)")
_STATISTICS = ("running_mean", "running_var")


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
    Weights of quantised layers of TorchScript, which are packed with their scales. For a backbone that is shipped without its head: give the backbone's factory as the reference. An adapter with its
    adapter_config.json is not expected to hold the base model.
    ## References
    torch.nn.Module.load_state_dict, `strict`.
    """
    names = named(contents)
    if not comparable(source, names):
        return
    missing = [name for name in reference.missing(names) if reference.state[name].parameter]
    missing = [name for name in missing if not packed(name, contents)]
    adapters = sum(bool(ADAPTER.search(name)) for name in names)
    if not missing or len(missing) == len(reference.state) or adapters * 2 > len(names):
        return
    modules = sorted({name.partition(".")[0] for name in missing})
    yield Finding(
        message=f"{len(missing)} of {len(reference.state)} tensors of the reference are missing: {listed(missing)}",
        location=Location(path=source.files[0].path, module=modules[0], tensor=missing[0]),
        measured={"missing": Measure(value=len(missing), threshold=0, unit=f"of {len(reference.state)}")},
        remedy="export the whole state dict, and load with strict=True",
        follows_from=(*UNREAD, "unmerged-adapter"),
    )


@look("WGT003")
def missing_reference_buffers(
    source: ArtifactSource, contents: ArtifactContents, reference: ReferenceModel
) -> Iterator[Finding]:
    """Buffers of the reference's state dict that the artifact lacks."""
    names = named(contents)
    if not comparable(source, names):
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
            message=f"{len(missing)} buffers of the reference are missing{words}: {listed(missing)}",
            location=Location(path=source.files[0].path, tensor=missing[0]),
            measured={"missing": Measure(value=len(missing), threshold=0)},
            remedy="save model.state_dict(), which holds the buffers, not model.named_parameters()",
            follows_from=(*UNREAD, "missing-preprocessing"),
        )
    elif counters and not gone:
        yield Finding(
            message=f"{len(counters)} counters num_batches_tracked are missing; evaluation does not need them",
            severity=Severity.INFO,
            location=Location(path=source.files[0].path, tensor=counters[0]),
            measured={"missing": Measure(value=len(counters), threshold=0)},
            remedy="save model.state_dict()",
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
    names = named(contents)
    if not comparable(source, names):
        return
    where = Location(path=source.files[0].path, tensor=next(iter(names)))
    adapters = [name for name in names if ADAPTER.search(name)]
    if reference is not None and not adapters:  # by other names that the model of the code lacks
        surplus = set(reference.unexpected(names))
        adapters = [name for own, name in reference.aligned(names).items() if own in surplus and _CALLED_SO.search(own)]
    if adapters:
        yield from _adapters(source, contents, names, adapters, reference)
    prefix = reference.prefix if reference is not None else _wrapper(names)
    if prefix:
        lacks = prefix.startswith("-")
        touched = len(reference.state) if reference is not None else len(names)
        yield Finding(
            message=f'the keys {"lack" if lacks else "have"} "{prefix.lstrip("-")}" in front: none of the {touched} keys '
            f"fits ({listed(list(names), 2)})",
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


@look("MOD003")
def adapter_in_the_graph(
    contract: IOContract, reference: ReferenceModel | None, parity: ParityRun | None
) -> Iterator[Finding]:
    """An ONNX graph that computes an adapter beside the layer that it belongs to."""
    notes = contract.of("adapter")
    if not notes or (reference is not None and any(ADAPTER.search(name) for name in reference.state)):
        return
    faithful = parity is not None and parity.faithful
    yield Finding(
        message=f"{len(notes)} nodes compute an adapter beside its base layer: {listed([n.place for n in notes], 3)}",
        severity=Severity.INFO if faithful else None,
        location=Location(path=contract.file, module=notes[0].place),
        measured={"adapters": Measure(value=len(notes), threshold=0)},
        remedy="merge the adapter before exporting (merge_and_unload)",
        faults=("unmerged-adapter",),
    )


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
    expected = reference is not None and any(ADAPTER.search(name) for name in reference.state)
    base = [name for name in names if name not in adapters]
    alone = len(base) <= len(adapters) and bool(contents.facts.get("adapter_config")) and reference is None
    if expected:
        return
    words = f"beside {len(base)} of the base model" if base else "and nothing of the base model"
    yield Finding(
        message=f"{len(adapters)} tensors of an adapter are stored {words}: {listed(adapters, 3)}",
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
        if heads and not tables:  # a table of another name: the only other matrix of the same shape
            shape = names[heads[0]].shape
            tables = [name for name, entry in names.items() if entry.shape == shape and name not in heads]
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
