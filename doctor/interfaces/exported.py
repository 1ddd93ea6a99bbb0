"""torch.export archives: the program is JSON, and says everything."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.evidence.io_contract import Dim, GraphNote, IOContract, Port

_MAX_JSON = 512 << 20
# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2",
}  # fmt: skip
_RANDOM = ("bernoulli", "multinomial", "rand", "randn", "rand_like", "randn_like", "normal", "randint", "randperm")
_TRAINING = ("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "batch_norm")
_HOST = ("cpu", "meta")


def read(path: Path, name: str) -> IOContract:
    """Read the exported program; raises ValueError when there is none."""
    program = _program(path)
    graph = program["graph_module"]["graph"]
    signature = program["graph_module"]["signature"]
    values, symbols = graph.get("tensor_values", {}), graph.get("sym_int_values", {})
    user = [_user(spec) for spec in signature["input_specs"]]
    inputs = [_port(entry, values, symbols) for entry in user if entry]
    used = {value for node in graph["nodes"] for value in _names(node["inputs"])}
    results = [_user(spec, "user_output") for spec in signature["output_specs"]]
    outputs = [_port(entry, values, symbols) for entry in results if entry]
    names = _output_names(program)
    if names and len(names) == len(outputs):
        outputs = [Port(name, port.dtype, port.dims) for name, port in zip(names, outputs, strict=True)]
    used |= {entry for result in results if result for entry in [result]}
    return IOContract(
        format="pt2",
        file=name,
        inputs=tuple(Port(port.name, port.dtype, port.dims, port.name in used) for port in inputs),
        outputs=tuple(outputs),
        opset=next(iter(program.get("opset_version", {}).values()), None),
        producer=f"torch {program.get('torch_version', '')}".strip(),
        notes=tuple(_notes(graph)),
    )


def _program(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            inner = member.filename.partition("/")[2]
            program = re.fullmatch(r"models/[^/]+\.json", inner) or inner == "serialized_exported_program.json"
            program = program or member.filename == "serialized_exported_program.json"
            if program and member.file_size <= _MAX_JSON:
                found = json.loads(archive.read(member))
                if isinstance(found, dict) and "graph_module" in found:
                    return found
    raise ValueError("no exported program in the archive")


def _user(spec: dict[str, Any], kind: str = "user_input") -> str | None:
    argument = (spec.get(kind) or {}).get("arg") or {}
    return (argument.get("as_tensor") or {}).get("name")


def _port(name: str, values: dict[str, Any], symbols: dict[str, Any]) -> Port:
    meta = values.get(name)
    if meta is None:
        return Port(name)
    return Port(name, _DTYPES.get(meta["dtype"]), tuple(_dim(size) for size in meta["sizes"]))


def _dim(size: dict[str, Any]) -> Dim:
    if "as_int" in size:
        return int(size["as_int"])
    text = str((size.get("as_expr") or {}).get("expr_str") or "?")
    return re.sub(r"Symbol\('(\w+)'[^)]*\)", r"\1", text)


def _names(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Every name that a node's arguments mention, however nested."""
    for match in re.finditer(r'"name": "([^"]+)"', json.dumps(entries)):
        yield match[1]


def _output_names(program: dict[str, Any]) -> list[str]:
    """The keys of a dictionary of outputs; none for tuples."""
    try:
        spec = json.loads(program["graph_module"]["module_call_graph"][0]["signature"]["out_spec"])[1]
        if spec["type"] not in ("builtins.dict", "collections.OrderedDict"):
            return []
        return [str(key) for key in json.loads(spec["context"])]
    except (KeyError, IndexError, TypeError, ValueError):
        return []


def _notes(graph: dict[str, Any]) -> Iterator[GraphNote]:
    for node in graph["nodes"]:
        op = node["target"].removeprefix("torch.ops.")
        short = op.split(".")[1] if op.count(".") else op
        place, source = str(node.get("name") or short), _source(node)
        arguments = {entry["name"]: entry["arg"] for entry in node["inputs"]}
        mode = arguments.get("train", arguments.get("training"))
        rate = (arguments.get("p") or {}).get("as_float")
        if _keeps_no_statistics(op, arguments):
            continue
        trains = (mode or {}).get("as_bool")
        if trains and ((short in _TRAINING and rate != 0.0) or short.startswith("_native_batch_norm_legit")):
            yield GraphNote("training", place, op, "training=True", source)
        elif short == "_batch_norm_with_update":
            yield GraphNote("training", place, op, "updates its statistics", source)
        elif short in _RANDOM:
            yield GraphNote("random", place, op, "", source)
        elif op.startswith(("quantized_decomposed.", "quantized.", "torchao.")):
            yield GraphNote("quantised", place, op, "int8", source)
        for argument in arguments.values():
            device = argument.get("as_device") if isinstance(argument, dict) else None
            if device and device.get("type") not in _HOST:
                index = "" if device.get("index") is None else f":{device['index']}"
                yield GraphNote("device", place, op, f"{device['type']}{index}", source)
        for value in _graphs_within(node):
            yield from _notes(value)


def _keeps_no_statistics(op: str, arguments: dict[str, Any]) -> bool:
    """Normalisation by the batch on purpose: `track_running_stats=False`, or instance normalisation."""
    return op.endswith(".no_stats") or "as_none" in (arguments.get("running_mean") or {})


def _graphs_within(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The graphs of a node's branches."""
    for entry in node["inputs"]:
        inner = entry["arg"].get("as_graph") if isinstance(entry["arg"], dict) else None
        if inner and inner.get("graph"):
            yield inner["graph"]


def _source(node: dict[str, Any]) -> str | None:
    """`file:line` of the training code that made a node: its innermost line outside of site-packages."""
    trace = (node.get("metadata") or {}).get("stack_trace") or ""
    places = [f"{path}:{line}" for path, line in re.findall(r'File "([^"]+)", line (\d+)', trace)]
    own = [place for place in places if "site-packages" not in place]
    return own[-1] if own else None
