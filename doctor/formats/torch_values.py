"""Tensors, by name, in what a pickle of PyTorch would build."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from doctor.formats.pickle_machine import Call, Global, Persistent, Table

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}
ITEM_SIZES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
    "complex32": 4,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float4_e2m1fn_x2": 1,
}
_CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "generator")
_NOT_WEIGHTS = ("optim", "sched", "scaler", "rng", "ema_opt", "loop", "callbacks")
_MOST = 2_000_000  # values that are looked at in one pickle; a shared part counts wherever it is referred to
_NESTED = 8  # a parameter of a subclass of a tensor is three deep
MOST_DIMENSIONS = 64


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the pickle describes it: which storage, which part of it. `offset` and `strides` in elements."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    key: str
    device: str
    storage_numel: int
    parameter: bool = False
    fault: str | None = None
    sparse: bool = False  # `shape` is the whole's, the storage that of its values

    @property
    def contiguous(self) -> bool:
        """Whether the elements follow each other in the storage."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True

    @property
    def reach(self) -> int:
        """Number of elements of the storage from the first to the last element of the tensor."""
        if any(size == 0 for size in self.shape):
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True)
class Named:
    """A tensor under its name; `weight` says whether it belongs to the model, `group` which container held it."""

    name: str
    tensor: StoredTensor
    weight: bool


@dataclass(frozen=True)
class Values:
    """All tensors; the container that holds the weights; the layers of a whole module by path: class, mode,
    rate of a dropout.
    """

    tensors: tuple[Named, ...]
    container: str
    modules: dict[str, dict[str, Any]]
    extra: tuple[str, ...]
    complete: bool = True


class _Steps:
    """How many values may still be looked at."""

    def __init__(self) -> None:
        self.left = _MOST

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def stored_tensor(value: Any, depth: int = 0) -> StoredTensor | None:
    """The tensor that a call of one of torch's rebuilding functions would make; None when it is another thing."""
    if not isinstance(value, Call) or not isinstance(value.function, Global) or depth > _NESTED:
        return None
    arguments = value.arguments if isinstance(value.arguments, tuple) else ()
    name = value.function.path
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        inner = stored_tensor(arguments[0], depth + 1) if arguments else None
        return None if inner is None else StoredTensor(**{**_fields(inner), "parameter": True})
    if name in ("torch.nn.parameter.Parameter", "torch.nn.Parameter", "torch.nn.parameter.Buffer"):
        return stored_tensor(arguments[0], depth + 1) if arguments else None
    if name == "torch._tensor._rebuild_from_type_v2" and len(arguments) > 2:
        return stored_tensor(Call(arguments[0], arguments[2], "REDUCE"), depth + 1)
    if name == "torch._utils._rebuild_sparse_tensor":
        return _sparse(arguments, depth)
    if name not in (
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_qtensor",
    ):
        return None
    return _rebuilt(arguments)


def _fields(tensor: StoredTensor) -> dict[str, Any]:
    return {name: getattr(tensor, name) for name in StoredTensor.__dataclass_fields__}


def _sparse(arguments: tuple[Any, ...], depth: int) -> StoredTensor | None:
    """Of `(layout, (indices ..., values, size, ...))`."""
    data = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], tuple) else ()
    parts = [part for part in (stored_tensor(item, depth + 1) for item in data) if part is not None]
    shape = next((size for size in (_sizes(item) for item in data) if size is not None), None)
    if not parts or shape is None:
        return None
    return StoredTensor(**{**_fields(parts[-1]), "shape": shape, "strides": shape, "offset": 0, "sparse": True})


def _rebuilt(arguments: tuple[Any, ...]) -> StoredTensor | None:
    if len(arguments) < 4 or not isinstance(arguments[0], Persistent):
        return None
    identity, offset, shape, strides = arguments[0].identity, arguments[1], _sizes(arguments[2]), _sizes(arguments[3])
    if not isinstance(identity, tuple) or len(identity) < 5 or shape is None or strides is None:
        return None
    kind = identity[1].name if isinstance(identity[1], Global) else identity[1] if isinstance(identity[1], str) else "?"
    dtype = _STORAGES.get(kind.replace("torch ", "").rpartition(".")[2], "unknown")
    for argument in arguments[6:7]:
        if isinstance(argument, Global) and argument.module == "torch" and argument.name in ITEM_SIZES:
            dtype = argument.name
    numel, device = identity[4], identity[3] if isinstance(identity[3], str) else "?"
    key = str(identity[2]) if isinstance(identity[2], str | int) else "?"
    sound = all(isinstance(part, int) and abs(part) < 1 << 62 for part in (offset, numel))
    if not sound or offset < 0 or len(shape) != len(strides) or min((*shape, *strides, 0)) < 0:
        return StoredTensor(dtype, shape, shape, 0, key, device, 0, fault="its offset, sizes or strides are none")
    return StoredTensor(dtype, shape, strides, offset, key, device, numel)


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, Call) and isinstance(value.arguments, tuple) and value.arguments:
        value = value.arguments[0]  # torch.Size((...))
    if not isinstance(value, list | tuple) or len(value) > MOST_DIMENSIONS:
        return None
    return tuple(value) if all(isinstance(size, int) and abs(size) < 1 << 62 for size in value) else None


def values(root: Any, scripted: bool = False) -> Values:
    """Name the tensors: of a state dict by its keys, of a checkpoint by those of its state dict, of a module by path."""
    modules: dict[str, dict[str, Any]] = {}
    steps = _Steps()
    items = _mapping(root)
    if stored_tensor(root) is not None:
        items = {"tensor": root}
    if items is None or _is_module(root, scripted):
        tensors = list(_walk(root, "", True, modules, scripted, steps))
        return Values(tuple(tensors), "", modules, (), steps.left >= 0)
    if "state" in items and "param_groups" in items:  # an optimizer's own file
        tensors = list(_walk(root, "", False, None, scripted, steps))
        return Values(tuple(tensors), "", modules, (), steps.left >= 0)
    direct = {key for key, value in items.items() if stored_tensor(value) is not None and isinstance(key, str)}
    container = _container(items, scripted, len(direct))
    found: list[Named] = []
    for key, value in items.items():
        own = key == container if container else stored_tensor(value) is not None or not _optimizer(key)
        prefix = "" if container and key == container else _text(key)
        if container and key == container and _is_module(value, scripted):
            found.extend(_walk(value, "", True, modules, scripted, steps))
        else:
            found.extend(_walk(value, prefix, own, None, scripted, steps))
    extra = tuple(_text(key) for key in items if key not in direct)[:200]
    return Values(tuple(found), container, modules, extra, steps.left >= 0)


def _text(key: Any) -> str:
    return key if isinstance(key, str) else f"[{key}]" if isinstance(key, int) else type(key).__name__


def _optimizer(key: Any) -> bool:
    return isinstance(key, str) and any(word in key.lower() for word in _NOT_WEIGHTS)


def _container(items: dict[Any, Any], scripted: bool, beside: int) -> str:
    """The entry of a checkpoint that holds the model: a usual name, or the one with most tensors.

    Where tensors stand `beside` it, only a usual name counts that holds more of them: class weights and masks are kept
    there, while a state dict may hold what a module calls its extra state.
    """
    steps = _Steps()
    sizes = {
        key: sum(1 for _ in _walk(value, "", True, None, scripted, steps))
        for key, value in items.items()
        if isinstance(key, str) and not _optimizer(key) and isinstance(value, Call | Table)
    }
    for name in _CONTAINERS:
        if sizes.get(name, 0) > beside:
            return name
    if beside:
        return ""
    best = max(sizes, key=lambda key: sizes[key], default="")
    return best if best and sizes[best] else ""


def _mapping(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, Table):
        return value.items
    if isinstance(value, Call) and isinstance(value.function, Global):
        if value.function.path in ("collections.OrderedDict", "builtins.dict", "collections.defaultdict"):
            return value.items
        state = value.state
        if value.items and state is None:
            return value.items
    return None


def _attributes(value: Any) -> dict[Any, Any] | None:
    state = value.state if isinstance(value, Call) else None
    if isinstance(state, tuple) and state and isinstance(state[0], Table):
        state = state[0]
    return state.items if isinstance(state, Table) else None


def _is_module(value: Any, scripted: bool) -> bool:
    attributes = _attributes(value)
    return attributes is not None and (scripted or ("_parameters" in attributes and "_modules" in attributes))


def _walk(
    root: Any, prefix: str, weight: bool, modules: dict[str, dict[str, Any]] | None, scripted: bool, steps: _Steps
) -> Iterator[Named]:
    """Tensors under a value, each place once: the values are a graph with shared parts, maybe with cycles."""
    stack: list[tuple[Any, str, bool]] = [(root, prefix, False)]
    seen: set[int] = set()
    while stack and steps.take():
        value, path, _parameter = stack.pop()
        tensor = stored_tensor(value)
        if tensor is not None:
            yield Named(path or "tensor", tensor, weight)
            continue
        if not isinstance(value, Call | Table | list | tuple) or id(value) in seen:
            continue
        if not isinstance(value, tuple) or len(value) > 0:
            seen.add(id(value))
        stack.extend(reversed(list(_children(value, path, scripted, modules))))


def _children(
    value: Any, path: str, scripted: bool, modules: dict[str, dict[str, Any]] | None
) -> Iterator[tuple[Any, str, bool]]:
    def join(key: Any) -> str:
        return f"{path}.{_text(key)}" if path else _text(key)

    attributes = _attributes(value)
    if attributes is not None and ("_modules" in attributes or scripted):
        kind = value.function.path if isinstance(value.function, Global) else "?"
        if modules is not None and len(modules) < 100_000:
            modules[path] = {"class": kind, "training": attributes.get("training"), "p": attributes.get("p")}
        for group in ("_parameters", "_buffers", "_modules"):
            for key, inner in (_mapping(attributes.get(group)) or {}).items():
                yield inner, join(key), group == "_parameters"
        if scripted:
            for key, inner in attributes.items():
                yield inner, join(key), False
        return
    mapping = _mapping(value)
    if mapping is not None:
        for key, inner in mapping.items():
            yield inner, join(key), False
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield inner, join(index), False
    elif attributes is not None:
        for key, inner in attributes.items():
            yield inner, join(key), False
    if isinstance(value, Call):
        for index, inner in enumerate(value.elements):
            yield inner, join(index), False
