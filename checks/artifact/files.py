"""Files of an artifact against each other: paths that lead out, versions, shards."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.artifact_source import ArtifactSource
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check


@check(
    "FIL003",
    "path-escape",
    Severity.ERROR,
    faq="deployment/model file/incorrect",
    faults=("path-traversal",),
)
def path_escape(contents: ArtifactContents) -> Iterator[Finding]:
    """A name in the artifact leads out of its folder.

    ## What it measures
    Members of archives, entries of an index, external data of ONNX, and links: absolute paths, `..`, drive letters, and
    links whose target lies outside (the hub cache's links from `snapshots` to `blobs` are inside).
    ## Why it hurts
    Unpacking writes, and loading reads, files that were never meant: keys, other models, the system's own.
    ## Example
    ```python
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    ```
    ## Use instead
    ```python
    onnx.external_data_helper.set_external_data(tensor, location="model.onnx.data")
    ```
    ## When it is right
    Never in what is shipped; a link to a store of yours becomes a copy.
    ## References
    CVE-2022-25882 and CVE-2024-5187 (ONNX); CWE-22.
    """
    for problem in contents.labelled("path-traversal")[:20]:
        yield Finding(
            message=problem.message,
            location=Location(path=problem.file or None, tensor=problem.place),
            remedy="do not unpack or load it; export again with plain names beside the model",
        )


class VersionLimits(Limits):
    """Thresholds of FIL004."""

    opset: int = 28  # newest opset of the default domain that the runtime knows; ONNX Runtime 1.32, tried
    ir_version: int = 14  # newest IR of the same
    oldest: int = 7  # oldest opset that ONNX Runtime promises to run


@check(
    "FIL004",
    "runtime-version",
    Severity.ERROR,
    faq="deployment/model file/incorrect",
)
def runtime_version(source: ArtifactSource, contents: ArtifactContents, limits: VersionLimits) -> Iterator[Finding]:
    """The file's format is newer than the runtime that shall load it.

    ## What it measures
    For ONNX the opset of the default domain against the one given with `--opset`, by default the newest that a current
    ONNX Runtime knows, and the IR version. Below the oldest promised opset it is a warning.
    ## Why it hurts
    The session cannot be made, in production, where the runtime is older than on the exporting machine.
    ## Example
    ```python
    torch.onnx.export(model, inputs, "model.onnx", opset_version=24)  # the runtime in production knows 21
    ```
    ## Use instead
    ```python
    torch.onnx.export(model, inputs, "model.onnx", opset_version=18)
    ```
    ## When it is right
    When the runtime is newer than the default assumed: give --opset, or set the thresholds.
    ## References
    onnxruntime.ai, "Compatibility"; ONNX, "Versioning".
    """
    newest = source.opset or limits.opset
    for name, facts in contents.facts.get("onnx", {}).items():
        opset, version = facts["opsets"].get("", facts["opsets"].get("ai.onnx", 0)), facts["ir_version"]
        if opset > newest:
            yield Finding(
                message=f"it needs opset {opset}, the runtime knows up to {newest}",
                location=Location(path=name),
                measured={"opset": Measure(value=opset, threshold=newest)},
                remedy=f"export with opset_version={newest} or lower, or update the runtime",
            )
        elif 0 < opset < limits.oldest:
            yield Finding(
                message=f"it is written for opset {opset}; runtimes promise {limits.oldest} and newer",
                severity=Severity.INFO,
                location=Location(path=name),
                measured={"opset": Measure(value=opset, threshold=limits.oldest)},
                remedy="convert it with onnx.version_converter, or export it again",
            )
        if version > limits.ir_version:
            yield Finding(
                message=f"it is of IR version {version}, the runtime knows up to {limits.ir_version}",
                location=Location(path=name),
                measured={"ir_version": Measure(value=version, threshold=limits.ir_version)},
                remedy="write it with an older onnx, or update the runtime",
            )


@check(
    "FIL005",
    "missing-shards",
    Severity.ERROR,
    faq="deployment/model file/missing",
    faults=("truncated-file", "silent-missing-keys", "malformed-header"),
)
def missing_shards(source: ArtifactSource, contents: ArtifactContents) -> Iterator[Finding]:
    """The index names files or tensors that are not there.

    ## What it measures
    Every file of `weight_map` exists, every name of it is a tensor of that file, every tensor of the shards is in the
    index; names of the form `-00001-of-00003` are complete. A `total_size` that is not what the tensors need is info, and
    a warning from a factor of ten on.
    ## Why it hurts
    A loader that is not strict fills the gap with random numbers; a strict one stops in production.
    ## Example
    ```python
    for name in ("model.safetensors.index.json", "model-00001-of-00002.safetensors"):
        upload(name)
    ```
    ## Use instead
    ```python
    for name in ("model.safetensors.index.json", *sorted(set(index["weight_map"].values()))):
        upload(name)
    ```
    ## When it is right
    When a server loads only its own shards: give it an index of its own.
    ## References
    transformers, "Sharded checkpoints".
    """
    present = {file.path for file in source.files}
    held: dict[str, set[str]] = defaultdict(set)
    size: dict[str, int] = defaultdict(int)
    for tensor in contents.tensors:
        held[tensor.file].add(tensor.name)
        size[tensor.file] += tensor.nbytes
    for problem in contents.labelled("missing-shard"):
        yield Finding(message=problem.message, location=Location(path=problem.file), faults=("truncated-file",))
    damaged = {problem.file for problem in contents.problems}
    for name, index in contents.facts.get("indexes", {}).items():
        shards = sorted(set(index["map"].values()))
        missing = [shard for shard in shards if shard not in present]
        for shard in missing:
            lost = sum(target == shard for target in index["map"].values())
            yield Finding(
                message=f"{shard} is missing, and with it {lost} of {len(index['map'])} tensors",
                location=Location(path=name, tensor=shard),
                measured={"tensors": Measure(value=lost, threshold=0)},
                remedy="fetch the missing file; compare the list of files with the index",
                faults=("truncated-file", "silent-missing-keys"),
            )
        readable = [shard for shard in shards if shard in present and shard not in damaged]
        absent = sorted(key for key, shard in index["map"].items() if shard in readable and key not in held[shard])
        if absent:
            yield Finding(
                message=f"{len(absent)} tensors of the index are not in their files: {', '.join(absent[:5])}",
                location=Location(path=name, tensor=absent[0]),
                measured={"tensors": Measure(value=len(absent), threshold=0)},
                remedy="write index and shards in one go",
                faults=("silent-missing-keys",),
            )
        unlisted = sorted(key for shard in readable for key in held[shard] if key not in index["map"])
        if unlisted:
            yield Finding(
                message=f"{len(unlisted)} tensors of the shards are not in the index, and will not be loaded: "
                f"{', '.join(unlisted[:5])}",
                severity=Severity.WARNING,
                location=Location(path=name, tensor=unlisted[0]),
                measured={"tensors": Measure(value=len(unlisted), threshold=0)},
                remedy="write index and shards in one go",
                faults=("silent-missing-keys",),
            )
        if len(readable) == len(shards) and not absent and not unlisted:
            yield from _other_size(name, index["total_size"], sum(size[shard] for shard in shards))
    if not contents.facts.get("indexes"):
        yield from _unindexed(present)


def _other_size(name: str, stated: object, stored: int) -> Iterator[Finding]:
    """Loaders go by the index's own list; the number is often that of another precision, or counts tied weights twice."""
    number = stated if isinstance(stated, int | float) and not isinstance(stated, bool) else None
    if stated is None or (number is not None and abs(number - stored) <= 0.01 * stored):
        return
    near = number is not None and stored <= 10 * number <= 100 * stored
    yield Finding(
        message=f"the index states {str(stated)[:40]} bytes, its tensors have {stored}",
        severity=Severity.INFO if near else Severity.WARNING,
        location=Location(path=name),
        measured={"bytes": Measure(value=stored)},
        remedy="write index and shards in one go",
        faults=("malformed-header",),
    )


def _unindexed(present: set[str]) -> Iterator[Finding]:
    families: dict[tuple[str, int], set[int]] = defaultdict(set)
    for path in present:
        found = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})(\.\w+)", path)
        if found:
            families[found[1] + found[4], int(found[3])].add(int(found[2]))
    for (family, count), numbers in families.items():
        missing = sorted(set(range(1, count + 1)) - numbers)
        if missing and len(present) > 1:
            yield Finding(
                message=f"of {count} shards, {len(missing)} are missing: {', '.join(map(str, missing[:10]))}",
                location=Location(path=family),
                measured={"shards": Measure(value=count - len(missing), threshold=count)},
                remedy="fetch the missing files and the index",
                faults=("truncated-file", "silent-missing-keys"),
            )


@check(
    "FIL006",
    "duplicate-shards",
    Severity.WARNING,
    faq="deployment/model file/duplicated",
    faults=("duplicate-tensors",),
)
def duplicate_shards(source: ArtifactSource, contents: ArtifactContents) -> Iterator[Finding]:
    """The same weights are stored in two files.

    ## What it measures
    Tensors of one name in several shards of one folder, and shards that no index names. One model in two formats
    (safetensors and .bin) is told as info.
    ## Why it hurts
    Which copy is loaded depends on the loader and its version; when one is mended, the other is served.
    ## Example
    ```python
    save_file(state, "model.safetensors")  # model-00001-of-00002.safetensors of the last export still lies beside it
    ```
    ## Use instead
    ```python
    shutil.rmtree(folder)
    model.save_pretrained(folder)
    ```
    ## When it is right
    When the same model is offered in several formats for several loaders, made in one go.
    ## References
    transformers, "Sharded checkpoints".
    """
    places: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for tensor in contents.weights:
        path = PurePosixPath(tensor.file)
        kind = "safetensors" if path.suffix == ".safetensors" else "torch" if path.suffix in _TORCH else ""
        if kind and path.parent == PurePosixPath(".") and "adapter" not in path.name:
            places[kind, path.suffix, tensor.name].append(tensor.file)
    twice = {key: files for key, files in places.items() if len(set(files)) > 1}
    by_files: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (_, _, name), files in twice.items():
        by_files[tuple(sorted(set(files)))].append(name)
    indexed = {shard for index in contents.facts.get("indexes", {}).values() for shard in index["map"].values()}
    for several, names in by_files.items():
        one_artifact = all(file in indexed or _standard(file) for file in several)
        yield Finding(
            message=f"{len(names)} tensors ({names[0]} ...) are stored in {' and '.join(several[:4])}",
            severity=None if one_artifact else Severity.INFO,
            location=Location(path=several[-1], tensor=names[0]),
            measured={"tensors": Measure(value=len(names), threshold=0)},
            remedy="empty the folder before exporting, and keep one copy",
        )
    formats = {kind for kind, _, _ in places}
    if len(formats) > 1:
        yield Finding(
            message="the weights are there as safetensors and as pickles",
            severity=Severity.INFO,
            location=Location(path=source.files[0].path),
            remedy="ship the safetensors only",
        )


_TORCH = (".bin", ".pt", ".pth")


def _standard(file: str) -> bool:
    """Whether a loader would take this file by its name: `model.safetensors`, or one shard of several."""
    return bool(re.fullmatch(r"(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)", file))
