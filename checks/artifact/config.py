"""The weights of a Hugging Face folder against its own configuration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.findings import Finding, Location, Measure
from doctor.registry import look

_TABLE = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|shared)\.weight$")
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
_OTHER_WIDTHS = ("embedding_size", "word_embed_proj_dim", "emb_dim", "hidden_sizes", "text_config", "vision_config")
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers")
# Tensors, the keys that state how many rows they have. Tables of positions may have rows to spare (RoBERTa, OPT).
_STATED = (
    (r"(?:position_embeddings|wpe|embed_positions)\.weight", ("max_position_embeddings", "n_positions")),
    (r"token_type_embeddings\.weight", ("type_vocab_size",)),
    (r"(?:intermediate\.dense|mlp\.(?:up|gate)_proj|layers\.\d+\.fc1|ffn\.lin1)\.weight", ("intermediate_size", "hidden_dim")),
)  # fmt: skip
_BLOCK = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


@look("MOD001")
def drift_from_the_configuration(contents: ArtifactContents) -> Iterator[Finding]:
    """Shapes and depth that config.json states and the weights have not."""
    config = contents.facts.get("configs", {}).get("config.json", {})
    if not config or any(key in config for key in _OTHER_WIDTHS) or contents.problems:
        return
    names = {tensor.name: tensor for tensor in contents.weights}
    if not names or any("lora_" in name for name in names):
        return
    tables = [tensor for tensor in names.values() if _TABLE.search(tensor.name) and len(tensor.shape) == 2]
    for tensor in tables or _largest(names.values(), config):
        yield from _table(tensor, config)
    for pattern, keys in _STATED:
        key = next((key for key in keys if isinstance(config.get(key), int)), "")
        table = next((t for t in names.values() if re.search(rf"(?:^|\.){pattern}$", t.name)), None)
        if key and table is not None and len(table.shape) == 2 and table.shape[0] < config[key]:
            yield _short(table, key, config[key])
    depth = next((config[key] for key in _DEPTHS if isinstance(config.get(key), int)), None)
    blocks = {int(found[1]) for name in names for found in [_BLOCK.search(name)] if found}
    if depth is not None and blocks and max(blocks) + 1 != depth and "num_layers" not in config:
        yield Finding(
            message=f"config.json states {depth} layers, the weights have {max(blocks) + 1}",
            location=Location(path="config.json"),
            measured={"layers": Measure(value=max(blocks) + 1, threshold=depth)},
            remedy="save weights and configuration in one go (save_pretrained)",
            faults=("stale-artifact",) if max(blocks) + 1 > depth else ("stale-artifact", "silent-missing-keys"),
        )


def _largest(tensors: Iterable[TensorEntry], config: dict[str, object]) -> list[TensorEntry]:
    """The matrix with most rows of the stated width, where none that stands once has a row for each token.

    Models of one's own call their tables otherwise; what stands in every block is no table.
    """
    vocabulary, width = config.get("vocab_size"), next((config[key] for key in _WIDTHS if key in config), None)
    floats = [tensor for tensor in tensors if len(tensor.shape) >= 2 and "float" in tensor.dtype]
    kinds = Counter(re.sub(r"\d+", "#", tensor.name) for tensor in floats)
    matrices = [tensor for tensor in floats if kinds[re.sub(r"\d+", "#", tensor.name)] == 1]
    if not isinstance(vocabulary, int) or any(max(tensor.shape) >= vocabulary for tensor in matrices):
        return []
    tables = [tensor for tensor in matrices if len(tensor.shape) == 2 and tensor.shape[1] == width]
    return [max(tables, key=lambda tensor: tensor.shape[0])] if tables else []


def _short(tensor: TensorEntry, key: str, stated: int) -> Finding:
    return Finding(
        message=f"config.json states {stated} for {key}, {tensor.name} has {tensor.shape[0]} rows",
        location=Location(path=tensor.file, tensor=tensor.name),
        measured={"rows": Measure(value=tensor.shape[0], threshold=stated)},
        remedy="save weights and configuration in one go (save_pretrained)",
        faults=("shape-mismatch", "stale-artifact"),
    )


def _table(tensor: TensorEntry, config: dict[str, object]) -> Iterator[Finding]:
    rows, width = tensor.shape
    vocabulary = config.get("vocab_size")
    stated = next((config[key] for key in _WIDTHS if isinstance(config.get(key), int)), None)
    wrong = []
    if isinstance(vocabulary, int) and rows < vocabulary:
        wrong.append(f"{vocabulary} tokens, it has {rows} rows")
    if stated is not None and width != stated:
        wrong.append(f"a width of {stated}, it has {width}")
    if wrong:
        yield Finding(
            message=f"config.json states {' and '.join(wrong)}",
            location=Location(path=tensor.file, tensor=tensor.name),
            measured={"rows": Measure(value=rows), "width": Measure(value=width)},
            remedy="save weights and configuration in one go (save_pretrained)",
            faults=("shape-mismatch", "stale-artifact"),
        )
