"""Tensors that are stored twice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from doctor.evidence.reference_model import ReferenceModel, adapted
from doctor.evidence.weight_stats import TensorStats, WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

# Buffers that every block of a model may hold for itself.
_TABLES = re.compile(
    r"inv_freq|freqs|position_ids|rotary|mask|rel_pos(_|ition_)(index|ids)|relative_position|anchors?|window|sincos|"
    r"pos_embed|attn\.bias$|masked_bias|buffer|cos_cached|sin_cached|scale|zero_point|constants?\b"
)
_INPUT = re.compile(r"emb|wte|shared|word|tok|encoder\.weight|src", re.I)
_OUTPUT = re.compile(r"head|decoder|out|proj|generator|logits|classifier|vocab|tgt|trg|emb", re.I)
_COPIES = re.compile(r"(^|[._/])(ema|target|teacher|student|momentum|online|shadow|avg|key_encoder|q_target)", re.I)


class TwinLimits(Limits):
    """Thresholds of WGT004."""

    smallest: int = 16  # values; smaller tensors may agree by chance or by rounding
    most: int = 10


@check(
    "WGT004",
    "duplicate-tensors",
    Severity.ERROR,
    faq="deployment/parameters/duplicated",
)
def duplicate_tensors(weights: WeightStats, reference: ReferenceModel | None, limits: TwinLimits) -> Iterator[Finding]:
    """Two layers hold the very same numbers, though nothing ties them.

    ## What it measures
    128-bit digests of all tensors of equal shape and equal statistics. Left out are tensors that share a storage,
    constant ones, integers, tables that every block holds (masks, rotary frequencies), an embedding and an output layer,
    and copies by name (`ema`, `target`, `teacher`).
    ## Why it hurts
    Trained layers never agree to the last bit: an export loop wrote one layer under two names, and the other is lost.
    ## Example
    ```python
    for i in range(depth):
        state[f"blocks.{i}.weight"] = blocks[0].weight
    ```
    ## Use instead
    ```python
    for i in range(depth):
        state[f"blocks.{i}.weight"] = blocks[i].weight
    ```
    ## When it is right
    Weights shared by design, saved once for each name: with --reference they are known. A model that was never trained
    has copies where its layers were made by deepcopy (nn.TransformerEncoder): told as info.
    ## References
    Press and Wolf (2017) on tying; safetensors, "Torch shared tensors".
    """
    groups = [group for group in weights.twins() if _counts(group, limits) and not _tied(group, reference)]
    names = weights.named().keys()
    certain = [group for group in groups if not _by_design(group, names)]
    fresh = bool(certain) and _deep_copies(certain, weights)
    for index, group in enumerate(certain[: limits.most]):
        rest = len(certain) - limits.most
        more = f" (and {rest} more groups)" if rest > 0 and index == limits.most - 1 else ""
        listed = " and ".join(tensor.name for tensor in group[:4])
        yield Finding(
            message=f"{listed} hold the same {group[0].count} numbers{more}"
            + (", as copies of a layer do that was never trained" if fresh else ""),
            severity=Severity.INFO if fresh else None,
            location=Location(path=group[0].file, tensor=group[1].name),
            measured={"tensors": Measure(value=len(group), threshold=1)},
            remedy="export each layer under its own name; tie in code what is meant to be one",
        )
    for group in groups:
        if _by_design(group, names):
            yield Finding(
                message=f"{group[0].name} and {group[1].name} are one weight by their names, stored twice",
                severity=Severity.INFO,
                location=Location(path=group[0].file, tensor=group[1].name),
                measured={"tensors": Measure(value=len(group), threshold=1)},
                remedy="store it once and tie it when loading",
            )


def _tied(group: Sequence[TensorStats], reference: ReferenceModel | None) -> bool:
    """Whether the reference ties all of them."""
    if reference is None:
        return False
    names = {adapted(tensor.name, reference.prefix) for tensor in group}
    return any(names <= set(tie) for tie in reference.ties)


def _counts(group: Sequence[TensorStats], limits: TwinLimits) -> bool:
    first = group[0]
    few = len(set(first.quantiles)) <= 3
    return (
        first.count >= limits.smallest
        and first.floating
        and not few
        and not any(_TABLES.search(tensor.name) for tensor in group)
    )


def _by_design(group: Sequence[TensorStats], names: Collection[str]) -> bool:
    """Whether the names say so: a copy, or an embedding (which has no bias) and an output layer."""
    own = [tensor.name for tensor in group]
    if any(_COPIES.search(name) for name in own):
        return True
    if len(group[0].shape) != 2 or len(own) > 4:
        return False
    tables = [name for name in own if f"{name.rpartition('.')[0]}.bias" not in names]
    inputs, outputs = sum(bool(_INPUT.search(n)) for n in own), sum(bool(_OUTPUT.search(n)) for n in own)
    if inputs >= 1 and inputs + outputs >= len(own):
        return True
    heads = [name for name in own if _OUTPUT.search(name)]
    apart = (
        len({name.rpartition(".")[0].rpartition(".")[0] for name in own}) > 1 or "." not in own[0].rpartition(".")[0]
    )
    return len(own) == 2 and len(heads) == 1 and bool(set(tables) - set(heads)) and apart


def _deep_copies(groups: Sequence[Sequence[TensorStats]], weights: WeightStats) -> bool:
    """Whether the copies are whole blocks of a model that was never trained: their norms are still 1, biases 0."""
    pattern = re.compile(r"\.\d+\.")
    if not all(len({pattern.sub(".#.", tensor.name) for tensor in group}) == 1 for group in groups):
        return False
    blocks = {pattern.sub(".#.", tensor.name).partition(".#.")[0] for group in groups for tensor in group}
    inside = [
        tensor
        for tensor in weights.weights
        if tensor.name.partition(".#.")[0].split(".")[0] in blocks
        or any(tensor.name.startswith(block) for block in blocks)
    ]
    vectors = [t for t in inside if len(t.shape) == 1 and "norm" in t.name and t.count > 1]
    return bool(vectors) and all(tensor.constant for tensor in vectors)
