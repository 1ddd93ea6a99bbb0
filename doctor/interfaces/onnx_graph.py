"""ONNX: signature and noteworthy nodes; weights are not loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.evidence.io_contract import Dim, GraphNote, IOContract, Port
from doctor.interfaces import slim

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
_QUANTISED = (
    "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul",
    "QLinearConv", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm", "QAttention",
    "MatMulNBits", "MatMulBnb4", "QEmbedLayerNormalization",
)  # fmt: skip
_ADAPTER = re.compile(r"(^|[./])(lora_[AB]|lora_embedding_[AB]|hada_w\d|lokr_w\d)([./]|$)")
_BATCH_NORM_WITH_MODE = 14  # opset from which BatchNormalization says its mode by an attribute


def read(path: Path, name: str) -> IOContract:
    """Read an ONNX file; raises what the parser raises."""
    import onnx

    model = onnx.ModelProto.FromString(slim.without_weights(path))
    graph = model.graph
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    own = {initializer.name for initializer in graph.initializer}
    read_by_nodes = {value for node, _ in _nodes(graph) for value in node.input}
    read_by_nodes |= {value.name for value in graph.output}
    inputs = [_port(value, value.name in read_by_nodes) for value in graph.input if value.name not in own]
    return IOContract(
        format="onnx",
        file=name,
        inputs=tuple(inputs),
        outputs=tuple(_port(value) for value in graph.output),
        named=True,
        opset=opset,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        notes=tuple(_notes(model, opset or 0)),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def _port(value: Any, used: bool = True) -> Port:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Port(value.name, kind, None, used)
    tensor = value.type.tensor_type
    dims: tuple[Dim, ...] | None = None
    if tensor.HasField("shape"):
        dims = tuple(_dim(dim) for dim in tensor.shape.dim)
    return Port(value.name, _DTYPES.get(tensor.elem_type, f"onnx-{tensor.elem_type}"), dims, used)


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None


def _nodes(graph: Any, outer: Any = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """All nodes with the graphs around them, innermost first; also those of branches and loop bodies."""
    scopes = (graph, *outer)
    for node in graph.node:
        yield node, scopes
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                yield from _nodes(inner, scopes)


def _notes(model: Any, opset: int) -> Iterator[GraphNote]:
    bodies = [(model.graph, opset)]
    for function in model.functions:
        version = next((entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")), opset)
        bodies.append((function, version))
    for body, version in bodies:
        for node, scopes in _nodes(body):
            place = node.name or (node.output[0] if node.output else node.op_type)
            if node.op_type == "BatchNormalization" and _batch_norm_trains(node, version):
                yield GraphNote("training", place, node.op_type, "training_mode=1")
            elif node.op_type == "Dropout" and _dropout_trains(node, scopes, version):
                yield GraphNote("training", place, node.op_type, "training_mode input is true")
            elif node.op_type in _RANDOM:
                yield GraphNote("random", place, node.op_type)
            elif node.op_type in _QUANTISED:
                yield GraphNote("quantised", place, node.op_type, _bits(node))
            elif node.op_type in ("MatMul", "Gemm", "Conv") and _of_adapter(node):
                yield GraphNote("adapter", place, node.op_type)


def _of_adapter(node: Any) -> bool:
    """Whether a node multiplies by a matrix of an adapter, by its own name or that of its weight."""
    return any(_ADAPTER.search(name) for name in (node.name, *node.input))


def _bits(node: Any) -> str:
    bits = next((attribute.i for attribute in node.attribute if attribute.name == "bits"), None)
    return "int4" if bits == 4 or node.op_type == "MatMulBnb4" else "int8"


def _batch_norm_trains(node: Any, opset: int) -> bool:
    if opset >= _BATCH_NORM_WITH_MODE:
        return any(attribute.name == "training_mode" and attribute.i == 1 for attribute in node.attribute)
    return sum(bool(output) for output in node.output) > 1  # earlier, by asking for the batch's statistics


def _dropout_trains(node: Any, scopes: tuple[Any, ...], opset: int) -> bool:
    """By its third input; one that is not a constant is the caller's choice. A rate of 0 does nothing."""
    if opset < 12 or len(node.input) < 3 or not node.input[2]:
        return False
    rate = _constant(node.input[1], scopes) if node.input[1] else 0.5
    return bool(_constant(node.input[2], scopes)) and rate != 0


def _constant(name: str, scopes: tuple[Any, ...]) -> float | None:
    from onnx import numpy_helper

    for scope in scopes:
        for initializer in getattr(scope, "initializer", ()):
            if initializer.name == name:
                return float(numpy_helper.to_array(initializer).reshape(-1)[0])
        for node in scope.node:
            if name not in node.output:
                continue
            if node.op_type in ("Identity", "Cast"):
                return _constant(node.input[0], scopes)
            if node.op_type == "Constant":
                value = next((attribute for attribute in node.attribute if attribute.name == "value"), None)
                return float(numpy_helper.to_array(value.t).reshape(-1)[0]) if value is not None else None
    return None
