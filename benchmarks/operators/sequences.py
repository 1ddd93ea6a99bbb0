"""Faults of axes and of attention: reshapes, batch-first, masks, positions."""

from __future__ import annotations

import ast
import re

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.source import Edit, Source, each, lines_of


@operator("scrambled-reshape", "batch-mixing", "causal-leak")
def reshape_for_transpose(source: Source) -> Wound | None:
    """`x.transpose(1, 2)` becomes a reshape to the same shape."""
    calls = [
        c for c in source.calls("transpose", "permute")
        if isinstance(c.func, ast.Attribute) and c.args and all(re.fullmatch(r"\d", source.of(a)) for a in c.args)
        and source.within(c, ast.FunctionDef) in source.forwards and source.within(c, ast.GeneratorExp) is None
    ]  # fmt: skip
    for call in calls:
        value = call.func.value  # type: ignore[attr-defined]
        arguments = ", ".join(source.of(a) for a in call.args)
        method = call.func.attr  # type: ignore[attr-defined]
        text = f"(kept := {source.of(value)}).reshape(kept.{method}({arguments}).shape)"
        return wound([source.replace(call, text)], lines_of([call]))
    return None


@operator("batch-mixing", "wrong-dim", "scrambled-reshape")
def batch_first_dropped(source: Source) -> Wound | None:
    """Layers that want time first get the batch first."""
    made = source.calls("LSTM", "GRU", "RNN", "TransformerEncoderLayer")
    made = [c for c in made if any(k.arg == "batch_first" for k in c.keywords)]
    if source.mentions("pack_padded_sequence|src_key_padding_mask|key_padding_mask|is_causal"):
        return None
    used = source.lines_with("self.lstm(", "self.gru(", "self.rnn(", "self.encoder(")
    return wound([source.keyword(c, "batch_first", "False") for c in made], (*lines_of(made), *used))


@operator("causal-leak")
def causal_mask_removed(source: Source) -> Wound | None:
    if not source.mentions(r"tril|triu|is_causal|square_subsequent"):
        return None
    masked = [c for c in source.calls("masked_fill") if isinstance(c.func, ast.Attribute)]
    edits = [source.replace(c, source.of(c.func.value)) for c in masked]  # type: ignore[attr-defined]
    lines = list(lines_of(masked))
    for call in source.all(ast.Call):
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            if keyword.arg in ("mask", "attn_mask") and source.mentions("is_causal"):
                edits.append(source.replace(keyword.value, "None"))
                lines += lines_of([call])
            if keyword.arg == "is_causal":
                edits.append(source.replace(keyword.value, "False"))
    return wound(edits, [*lines, *source.lines_with("tril", "triu", "scaled_dot_product", "subsequent", "mask")])


@operator("causal-leak")
def convolution_sees_ahead(source: Source) -> Wound | None:
    """A causal convolution padded on both sides."""
    calls = [c for c in source.calls("pad") if source.mentions("[Cc]ausal") and len(c.args) == 2]
    edits = [
        source.replace(c.args[1], f"({source.of(c.args[1].elts[0])} // 2, {source.of(c.args[1].elts[0])} // 2)")
        for c in calls
        if isinstance(c.args[1], ast.Tuple) and source.of(c.args[1].elts[1]) == "0"
    ]
    return wound(edits, (*lines_of(calls), *source.lines_with("Conv1d(", "self.conv(")))


@operator("missing-attention-mask", "padding-not-masked")
def padding_mask_removed(source: Source) -> Wound | None:
    edits: list[Edit] = []
    lines: list[int] = []
    for call in source.all(ast.Call):
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            if keyword.arg in ("src_key_padding_mask", "key_padding_mask", "attention_mask"):
                edits.append(source.replace(keyword.value, "None"))
                lines += lines_of([call])
    for node in source.all(ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
            if isinstance(key, ast.Constant) and key.value == "attention_mask":
                edits.append(source.wrap(value, "torch.ones_like(", ")")[0])
                edits.append(source.wrap(value, "", ")")[1])
                lines.append(value.lineno)
    return wound(edits, [*lines, *source.lines_with("model(")]) if edits else None


@operator("position-blind", "unused-layers")
def positions_dropped(source: Source) -> Wound | None:
    """`tokens + positions` loses its second term."""
    for node in source.all(ast.BinOp):
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Add)
            and re.match(r"self\.pos", source.of(node.right))
        ):
            return wound(
                [source.replace(node, source.of(node.left))], (*lines_of([node]), *source.lines_with("self.pos"))
            )
    return None


@operator("wrong-dim", "causal-leak", "batch-mixing")
def attention_softmax_over_wrong_axis(source: Source) -> Wound | None:
    """Softmax over the queries: the weights of one query no longer sum to 1."""
    calls = [c for c in source.calls("softmax") if source.mentions(r"qkv|att|query")]
    edits: list[Edit] = []
    lines: list[int] = []
    for call in calls:
        axis = next((k.value for k in call.keywords if k.arg == "dim"), call.args[-1] if call.args else None)
        if axis is not None and source.of(axis) == "-1":
            edits.append(source.replace(axis, "-2"))
            lines += lines_of([call])
    return wound(edits, lines)


@operator("graph-retained", "program-crash")
def hidden_state_keeps_its_graph(source: Source) -> Wound | None:
    """Truncated backpropagation through time without `detach`."""
    calls = [c for c in source.calls("detach") if re.search("hidden|state|carry", source.of(c))]
    edits = each(calls, lambda c: source.replace(c, source.of(c.func.value)))  # type: ignore[attr-defined]
    return wound(edits, (*lines_of(calls), *source.lines_with("backward(", "hidden")))
