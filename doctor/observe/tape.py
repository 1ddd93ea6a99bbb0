"""The op tape: a dispatch mode that notes every aten operation with its data flow, its module and the user's line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_MOST_OPS = 40_000
_RELU = {"relu", "relu_", "threshold"}
_BOUNDED = {"sigmoid": (0.0, 1.0), "sigmoid_": (0.0, 1.0), "tanh": (-1.0, 1.0), "tanh_": (-1.0, 1.0)}
_ACTIVATIONS = ("relu", "threshold", "sigmoid", "tanh")
# Of what predictions are compared with here, the range is noted.
_COMPARING = {"sub", "rsub", "mse_loss", "smooth_l1_loss", "huber_loss"}
# These give the same elements under another handle: data flow stays with the tensor that they came from.
_ALIASES = {"detach", "alias", "view_as", "_unsafe_view", "lift_fresh"}

Context = Callable[[], dict[str, Any]]


class TapeMode(TorchDispatchMode):
    """Records operations from `__enter__` to `__exit__`.

    A tensor is recognised by its storage, offset, shape and strides; storages are kept alive during the forward
    part so that none is used twice. `context` gives the running module and the user's line of an operation.
    With `values`, the exact minimum and maximum of every floating output is noted, and the first output that is
    not finite though its inputs were is kept in `origin`.
    """

    def __init__(self, context: Context, parameter_name: Callable[[torch.Tensor], str | None], values: bool) -> None:
        super().__init__()
        self.ops: list[dict[str, Any]] = []
        self.activations: list[tuple[str, dict[str, Any], torch.Tensor, torch.Tensor | None]] = []
        self.phase = "forward"
        self.truncated = False
        self.origin: dict[str, Any] | None = None
        self.quiet = False
        self._context = context
        self._parameter_name = parameter_name
        self.values = values
        self._ids: dict[tuple[Any, ...], int] = {}
        self._count = 0
        self._alive: list[torch.Tensor] = []
        self._parameters: dict[int, str | None] = {}
        self.keep_ops = True
        self._heard: dict[Any, bool] = {}
        self.on_activation: Callable[[str, dict[str, Any], torch.Tensor, torch.Tensor], None] | None = None
        self.listeners: dict[str, list[Callable[[str, dict[str, Any], Any, Any], None]]] = {}

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code run on."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, then note it."""
        kwargs = kwargs or {}
        if self.quiet or (self.phase != "forward" and not self.values) or self._unheard(func):
            return func(*args, **kwargs)
        inputs = list(_tensors(args)) + list(_tensors(kwargs.values()))
        notes = [self._note(tensor, used=True) for tensor in inputs] if self.keep_ops else []
        if notes and self.phase == "forward" and func._schema.name.partition("::")[2].rstrip("_") in _COMPARING:
            _note_targets(inputs, notes)
        finite = self._finite_inputs(inputs) if self.values else None
        result = func(*args, **kwargs)
        self._record(func, args, kwargs, inputs, notes, finite, result)
        return result

    def _unheard(self, func: Any) -> bool:
        """Whether nobody asks for this operation: off the steps whose operations are kept, nearly all of them."""
        if self.keep_ops or self.values:
            return False
        known = self._heard.get(func)
        if known is None:
            plain = func._schema.name.partition("::")[2].rstrip("_")
            known = self._heard[func] = plain in _ACTIVATIONS or plain in self.listeners
        return not known

    def _record(self, func: Any, args: Any, kwargs: Any, inputs: Any, notes: Any, finite: Any, result: Any) -> None:
        if len(self.ops) >= _MOST_OPS:
            self.truncated = True
            return
        name = func._schema.name.partition("::")[2]
        in_place = name.endswith("_") and not name.endswith("__")
        outputs = list(_tensors((result,)))
        op: dict[str, Any] = {}
        if self.keep_ops:
            fresh = name not in _ALIASES or not inputs or _key(outputs[0]) != _key(inputs[0]) if outputs else False
            op = {
                "name": name.rstrip("_") if in_place else name,
                "overload": func._overloadname,
                "phase": self.phase,
                "in": notes,
                "out": [self._note(tensor, used=False, fresh=fresh) for tensor in outputs],
                "args": _plain(func, args, kwargs),
                "grad": torch.is_grad_enabled(),
                # autograd has already made the node of this operation: the number that it gave last
                "node": torch._C._autograd._get_sequence_nr() - 1,
                **self._context(),
            }
            self.ops.append(op)
            if self.phase == "forward":
                self._alive.extend(outputs)
        if self.values and self.origin is None and finite is not None:
            self._look_for_origin(op, inputs, outputs, finite)
        plain = name.rstrip("_")
        if plain in _ACTIVATIONS and self.on_activation is not None and self.phase == "forward" and outputs and inputs:
            self.quiet = True
            try:
                self.on_activation(plain, op or self._context(), inputs[0], outputs[0])
            finally:
                self.quiet = False
        if plain in self.listeners and self.phase == "forward":
            self.quiet = True
            try:
                for listener in self.listeners[plain]:
                    listener(plain, op or self._context(), inputs, outputs)
            finally:
                self.quiet = False

    def _note(self, tensor: torch.Tensor, used: bool, fresh: bool = False) -> dict[str, Any]:
        key = _key(tensor)
        number = self._ids.get(key)
        if number is None or fresh:
            self._count += 1
            number = self._ids[key] = self._count
        note: dict[str, Any] = {"id": number, "shape": list(tensor.shape), "dtype": str(tensor.dtype)[6:]}
        if used:
            note["rg"] = tensor.requires_grad
            if tensor.is_leaf and (tensor.requires_grad or isinstance(tensor, torch.nn.Parameter)):
                if id(tensor) not in self._parameters:
                    self._parameters[id(tensor)] = self._parameter_name(tensor)
                    self._alive.append(tensor)
                note["parameter"] = self._parameters[id(tensor)]
        if self.values and not used and tensor.is_floating_point() and tensor.numel():
            note["min"], note["max"] = _range(tensor)
        return note

    def _finite_inputs(self, inputs: list[torch.Tensor]) -> list[str] | None:
        """Ranges of the inputs, or None when one of them is not finite already."""
        texts = []
        for tensor in inputs:
            if tensor.is_floating_point() and tensor.numel():
                low, high = _range(tensor)
                if not _sound(low, high):
                    return None
                texts.append(f"{low:.4g}..{high:.4g}")
        return texts

    def _look_for_origin(self, op: dict[str, Any], inputs: Any, outputs: Any, finite: list[str]) -> None:
        if op.get("name") in {"empty", "empty_like", "empty_strided", "new_empty", "resize"}:
            return
        for tensor in outputs:
            if tensor.is_floating_point() and tensor.numel():
                low, high = _range(tensor)
                # Minus infinity alone is how masks are written; it is no fault until it makes a NaN.
                if math.isnan(low) or math.isnan(high) or math.isinf(high):
                    value = "nan" if math.isnan(low) or math.isnan(high) else "inf"
                    self.origin = {**op, **self._derived(), "value": value, "inputs": finite}
                    return

    def _derived(self) -> dict[str, Any]:
        """Name and place of the operation whose derivative is being computed."""
        node = torch._C._current_autograd_node() if self.phase == "backward" else None
        number = node._sequence_nr() if node is not None else None
        made = next((op for op in self.ops if op.get("node") == number and op["phase"] == "forward"), None)
        return {key: made[key] for key in ("name", "line", "module") if key in made} if made else {}

    def begin_backward(self) -> None:
        """The forward part is over: let go of its tensors."""
        self.phase = "backward"
        self._alive.clear()

    def know(self, tensor: torch.Tensor) -> int:
        """The tape's number of a tensor that was made before it began."""
        self._alive.append(tensor)
        return int(self._note(tensor, used=False)["id"])

    def tensor_id(self, tensor: torch.Tensor) -> int | None:
        """The tape's number of a tensor of the user's."""
        return self._ids.get(_key(tensor))


def _note_targets(inputs: list[torch.Tensor], notes: list[dict[str, Any]]) -> None:
    """The range of an operand without gradient that one with a gradient is compared with."""
    if any(tensor.requires_grad for tensor in inputs):
        for tensor, note in zip(inputs, notes, strict=True):
            if not tensor.requires_grad and tensor.is_floating_point() and tensor.numel():
                note["min"], note["max"] = _range(tensor)


def _key(tensor: torch.Tensor) -> tuple[Any, ...]:
    try:
        return (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
    except (RuntimeError, NotImplementedError):  # sparse and other layouts have no storage
        return (id(tensor),)


def _tensors(values: Any) -> Any:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _range(tensor: torch.Tensor) -> tuple[float, float]:
    try:
        low, high = torch.aminmax(tensor.detach())
        return float(low), float(high)
    except (RuntimeError, NotImplementedError):
        return 0.0, 0.0


def _sound(low: float, high: float) -> bool:
    return not (math.isnan(low) or math.isnan(high) or math.isinf(high))


def _plain(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for argument, value in zip(func._schema.arguments, args, strict=False):
        _keep_plain(found, argument.name, value)
    for name, value in kwargs.items():
        _keep_plain(found, name, value)
    return found


def _keep_plain(found: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, bool | int | str):
        found[name] = value
    elif isinstance(value, float):
        found[name] = value if math.isfinite(value) else str(value)
    elif isinstance(value, list | tuple) and value and all(isinstance(part, int) for part in value) and len(value) < 10:
        found[name] = list(value)
