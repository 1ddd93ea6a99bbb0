"""What the rules on keys share: an artifact's names, and whether they are those of a state dict."""

from __future__ import annotations

import re
from collections.abc import Sequence

from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.evidence.artifact_source import ArtifactSource

# Formats whose names are those of the state dict; an ONNX graph renames, folds and transposes.
_NAMED = ("safetensors", "sharded", "torch-zip", "torch-legacy", "torch-tar", "torchscript", "pt2", "huggingface")
ADAPTER = re.compile(r"(^|\.)(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|hada_w\d|lokr_w\d|ia3_l)(\.|$)")
# Files that were not read to their end: what they lack is a symptom.
UNREAD = ("truncated-file", "corrupt-file", "malformed-header", "path-traversal")


def named(contents: ArtifactContents) -> dict[str, TensorEntry]:
    """The model's own tensors by name, without constants of scripts and without graphs that lie beside the weights."""
    graphs = contents.facts.get("onnx", {}).keys() | set(contents.facts.get("external", ()))
    return {
        tensor.name: tensor
        for tensor in contents.weights
        if not tensor.name.startswith("constants.") and tensor.file not in graphs
    }


def comparable(source: ArtifactSource, names: dict[str, TensorEntry]) -> bool:
    """Whether these names can be held against a state dict's."""
    return source.format in _NAMED and bool(names)


def packed(name: str, contents: ArtifactContents) -> bool:
    """Whether this parameter lies in a quantised layer, packed together with its scale."""
    layer = name.rpartition(".")[0]
    kind = str(contents.facts.get("modules", {}).get(layer, {}).get("class", ""))
    return ".quantized." in kind or any(
        tensor.name.startswith(f"{layer}._packed_params") for tensor in contents.weights
    )


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
