"""Which operation made clean data dirty: two traces of one call, compared operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from doctor.observe.frames import Line, UserFrames

_MOST_OPS = 6000
_MOST_ELEMENTS = 60_000_000
_SILENT = ("detach", "alias", "lift_fresh", "empty", "ones", "zeros", "arange")


@dataclass
class Traced:
    """One operation of a traced call."""

    name: str
    line: Line | None
    modules: tuple[nn.Module, ...]
    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]
    shapes: tuple[tuple[int, ...], ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)


class Trace(TorchDispatchMode):
    """Notes the operations of a call with their modules and the user's lines; with `keep`, their tensors, too."""

    def __init__(self, frames: UserFrames, keep: bool = True) -> None:
        super().__init__()
        self.ops: list[Traced] = []
        self.complete = True
        self._frames = frames
        self._keep = keep
        self._elements = 0
        self._stack: list[nn.Module] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Trace:
        self._handles = [
            nn.modules.module.register_module_forward_pre_hook(lambda module, _: self._stack.append(module)),
            nn.modules.module.register_module_forward_hook(self._leave, always_call=True),
        ]
        super().__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)
        for handle in self._handles:
            handle.remove()

    def _leave(self, module: nn.Module, args: Any, result: Any) -> None:
        if self._stack:
            self._stack.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, then note it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if len(self.ops) >= _MOST_OPS or self._elements > _MOST_ELEMENTS:
            self.complete = False
            return result
        inputs, outputs = tuple(_tensors(args)), tuple(_tensors((result,)))
        name = func._schema.name.partition("::")[2].rstrip("_") or func._schema.name
        if self._keep:
            self._elements += sum(tensor.numel() for tensor in outputs)
        plain = {
            argument.name: value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if isinstance(value, bool | int | float | list)
        }
        self.ops.append(
            Traced(
                name,
                self._frames.line(),
                tuple(self._stack),
                inputs if self._keep or name.endswith("softmax") else (),
                outputs if self._keep else (),
                tuple(tuple(tensor.shape) for tensor in inputs),
                plain,
            )
        )
        return result


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


@dataclass(frozen=True)
class Blame:
    """The operation that turned clean inputs into a dirty output, and what follows it on the way to the end."""

    op: Traced
    constants: tuple[torch.Tensor, ...]  # inputs of it that are the same in both calls
    later: tuple[Traced, ...]


def blame(first: Trace, second: Trace, clean: Callable[[torch.Tensor, torch.Tensor], bool]) -> Blame | None:
    """The earliest such operation on a way to the last dirty one; None where the traces differ or none is found.

    `clean(a, b)` tells of two different tensors of one place whether what must not change is the same in both.
    """
    if not (first.complete and second.complete) or len(first.ops) != len(second.ops):
        return None
    if any(a.name != b.name for a, b in zip(first.ops, second.ops, strict=True)):
        return None
    dirty: set[int] = set()
    same: dict[int, bool] = {}
    producer: dict[int, int] = {}
    above: dict[int, list[int]] = {}
    for index, (a, b) in enumerate(zip(first.ops, second.ops, strict=True)):
        above[index] = [producer[id(tensor)] for tensor in a.inputs if id(tensor) in producer]
        for left, right in zip(a.inputs, b.inputs, strict=False):
            same.setdefault(id(left), _equal(left, right))
        for left, right in zip(a.outputs, b.outputs, strict=False):
            producer[id(left)] = index
            same[id(left)] = _equal(left, right)
            if not same[id(left)] and left.is_floating_point() and left.dim() and not clean(left, right):
                dirty.add(index)
    if not dirty:
        return None
    reached, queue = set(), [max(dirty)]
    while queue:
        index = queue.pop()
        if index in reached:
            continue
        reached.add(index)
        queue.extend(parent for parent in above[index] if parent in dirty)
    roots = [index for index in reached if not any(parent in dirty for parent in above[index])]
    if not roots:
        return None
    start = min(roots)
    op = first.ops[start]
    constants = tuple(tensor for tensor in op.inputs if same.get(id(tensor), False))
    return Blame(op, constants, tuple(first.ops[index] for index in range(start + 1, len(first.ops))))


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a is b or (a.shape == b.shape and a.layout is torch.strided and torch.equal(a, b))


def keeps(size: int, kept: slice, spare: int = 0) -> Callable[[torch.Tensor, torch.Tensor], bool]:
    """Clean: along some axis of this size (or, merged with others, a multiple of it) the kept part is the same.

    With `spare`, axes may be longer by up to that (padded for a convolution) or shorter by one.
    """

    def clean(a: torch.Tensor, b: torch.Tensor) -> bool:
        if a.shape != b.shape:
            return True  # cannot be compared: no ground to blame it
        scale = float(a.abs().max()) if a.numel() else 0.0
        for axis, length in enumerate(a.shape):
            if length == size or (spare and size - 1 <= length <= size + spare):
                if _close(a, b, axis, kept, scale):
                    return True
            elif length % size == 0 and length:
                for shape, inner in (((size, length // size), axis), ((length // size, size), axis + 1)):
                    whole = (*a.shape[:axis], *shape, *a.shape[axis + 1 :])
                    if _close(a.reshape(whole), b.reshape(whole), inner, kept, scale):
                        return True
        return False

    return clean


def _close(a: torch.Tensor, b: torch.Tensor, axis: int, kept: slice, scale: float) -> bool:
    index = (slice(None),) * axis + (kept,)
    return bool(((a[index] - b[index]).abs() <= 1e-5 * scale).all())
