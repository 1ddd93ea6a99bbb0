"""TorchScript archives: the code is text that parses as Python, the attributes stand in a pickle.

The pickle's globals are never looked up: each becomes an inert record, so that nothing of the file can run.
"""

from __future__ import annotations

import ast
import io
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.evidence.io_contract import GraphNote, IOContract, Port

_MAX_TEXT = 64 << 20
_MAX_PICKLE = 64 << 20
_RANDOM = ("rand", "randn", "rand_like", "randn_like", "bernoulli", "multinomial", "normal", "randint", "randperm")
_TRAINS = {
    "dropout": 2, "dropout_": 2, "feature_dropout": 2, "alpha_dropout": 2, "native_dropout": 2, "batch_norm": 5,
    "cudnn_batch_norm": 5, "rrelu": 3,
}  # fmt: skip
_RATE_AT = {"dropout": 1, "dropout_": 1, "feature_dropout": 1, "alpha_dropout": 1, "native_dropout": 1}
_ACCELERATORS = re.compile(r"^(cuda|mps|xpu|hpu|xla)(:\d+)?$")


class _Record:
    """An object of the pickle: its class's name and its attributes."""

    path = ""

    def __new__(cls, *_: Any, **__: Any) -> _Record:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def __hash__(self) -> int:
        return id(self)


class _Inert(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Record,), {"path": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        return _Record()


def read(path: Path, name: str, *, attributes: bool = True) -> IOContract:
    """Read a TorchScript file, with the modules' attributes or its code alone; raises ValueError when that does not
    parse.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        sources = {
            member.filename.removeprefix(f"{root}/code/"): archive.read(member).decode("utf-8")
            for member in archive.infolist()
            if re.match(rf"{re.escape(root)}/code/.*\.py$", member.filename) and member.file_size <= _MAX_TEXT
        }
        record = _attributes(archive, root) if attributes else None
    classes = dict(_classes(sources))
    top = classes.get(record.path) if record is not None else None
    if top is None:
        top = next(iter(classes.values()), None)
    if top is None:
        raise ValueError("no code in the archive")
    inputs, outputs = _signature(top)
    notes = [note for tree in map(_parsed, sources.values()) for note in _notes(tree)]
    notes += list(_left_in_training(record, classes, "model")) if record is not None else []
    return IOContract(
        format="torchscript",
        file=name,
        inputs=inputs,
        outputs=outputs,
        producer="TorchScript",
        notes=tuple(notes),
    )


def _attributes(archive: zipfile.ZipFile, root: str) -> _Record | None:
    try:
        member = archive.getinfo(f"{root}/data.pkl")
        if member.file_size > _MAX_PICKLE:
            return None
        found = _Inert(io.BytesIO(archive.read(member))).load()
    except Exception:  # the rules about files say what is wrong with a pickle
        return None
    return found if isinstance(found, _Record) else None


def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _classes(sources: dict[str, str]) -> Iterator[tuple[str, ast.ClassDef]]:
    for file, source in sources.items():
        module = file.removesuffix(".py").replace("/", ".")
        for node in _parsed(source).body:
            if isinstance(node, ast.ClassDef):
                yield f"{module}.{node.name}", node


def _method(node: ast.ClassDef, name: str = "forward") -> ast.FunctionDef | None:
    return next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == name), None)


def _signature(node: ast.ClassDef) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    forward = _method(node)
    if forward is None:
        return (), ()
    read = {name.id for name in ast.walk(forward) if isinstance(name, ast.Name)}
    inputs = tuple(Port(argument.arg, used=argument.arg in read) for argument in forward.args.args[1:])
    kind = forward.returns
    count = 1
    if isinstance(kind, ast.Subscript) and isinstance(kind.value, ast.Name) and kind.value.id == "Tuple":
        count = len(kind.slice.elts) if isinstance(kind.slice, ast.Tuple) else 1
    elif isinstance(kind, ast.Subscript) and isinstance(kind.value, ast.Name) and kind.value.id in ("Dict", "List"):
        return inputs, ()
    return inputs, tuple(Port(str(index)) for index in range(count))


def _notes(tree: ast.Module) -> Iterator[GraphNote]:
    for owner in ast.walk(tree):
        if not isinstance(owner, ast.FunctionDef):
            continue
        kind = owner.args.args[0].annotation if owner.args.args else None
        module = ast.unparse(kind).removeprefix("__torch__.") if kind is not None else ""
        place = f"{_plain(module)}.{owner.name}".lstrip(".") if module != "Tensor" else owner.name
        for node in ast.walk(owner):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            op = node.func.attr
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            if of_torch and op in _TRAINS and _trains(node, op):
                yield GraphNote("training", place, f"torch.{op}", "training=True")
            elif of_torch and op in _RANDOM:
                yield GraphNote("random", place, f"torch.{op}")
            elif of_torch and op == "device" and node.args and isinstance(node.args[0], ast.Constant):
                if _ACCELERATORS.match(str(node.args[0].value)):
                    yield GraphNote("device", place, "torch.device", str(node.args[0].value))
            elif of_torch and op in ("cuda", "to"):
                for argument in node.args[1:]:
                    if isinstance(argument, ast.Constant) and _ACCELERATORS.match(str(argument.value)):
                        yield GraphNote("device", place, f"torch.{op}", str(argument.value))
                if op == "cuda":
                    yield GraphNote("device", place, "torch.cuda", "cuda")
            elif ast.unparse(node.func).startswith("ops.quantized"):
                yield GraphNote("quantised", place, ast.unparse(node.func), "int8")


def _plain(module: str) -> str:
    return re.sub(r"\.?___torch_mangle_\d+", "", module)


def _trains(node: ast.Call, op: str) -> bool:
    """Whether the mode is the constant True; a name is the module's own flag."""
    at = _TRAINS[op]
    if len(node.args) <= at:
        return False
    if op == "batch_norm" and isinstance(node.args[3], ast.Constant):  # None: it keeps no statistics
        return False
    mode = node.args[at]
    rate = node.args[_RATE_AT[op]] if op in _RATE_AT else None
    idle = isinstance(rate, ast.Constant) and rate.value == 0
    return isinstance(mode, ast.Constant) and mode.value is True and not idle


def _left_in_training(record: _Record, classes: dict[str, ast.ClassDef], path: str) -> Iterator[GraphNote]:
    """Modules whose `training` flag is set and whose code reads it, where that changes what they compute."""
    state = record.state if isinstance(record.state, dict) else {}
    node = classes.get(record.path)
    if node is not None and state.get("training") is True and _reads_training(node) and not _idle(node):
        kind = record.path.rpartition(".")[2]
        yield GraphNote("training", path, kind, "training attribute is true")
    for name, value in state.items():
        if isinstance(value, _Record) and isinstance(name, str):
            yield from _left_in_training(value, classes, f"{path}.{name}")


def _reads_training(node: ast.ClassDef) -> bool:
    return any(
        isinstance(part, ast.Attribute) and part.attr == "training" and isinstance(part.value, ast.Name)
        for part in ast.walk(node)
    )


def _idle(node: ast.ClassDef) -> bool:
    """A Dropout whose rate is the constant 0, or a normalisation that keeps no statistics."""
    declared = {
        part.target.id: part
        for part in node.body
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }
    rate, mean = declared.get("p"), declared.get("running_mean")
    if rate is not None and isinstance(rate.value, ast.Constant) and rate.value.value == 0:
        return True
    return mean is not None and ast.unparse(mean.annotation) == "NoneType"
