"""What the program feeds its models and losses: inputs, targets, and which forwards are training and which are not."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from doctor.observe.naming import settings

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder

_LOSSES = (
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div", "ctc_loss", "poisson_nll_loss", "gaussian_nll_loss",
)  # fmt: skip
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_MOST_LABELS = 4096
_MOST_BATCHES = 40
_MODE_SENSITIVE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


@dataclass
class _Inner:
    """A module that is called within another: its counts of calls, under the names of one version of the naming."""

    module: weakref.ref[nn.Module]
    names: int
    calls: list[int]
    outer: int = 0


class BatchWatch:
    """Entry calls (a user's line calls a module from outside every module), loss calls, input statistics."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._inputs: dict[tuple[int, str], dict[str, Any]] = {}
        self._losses: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._entries: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._pending: list[tuple[tuple[Any, ...], int]] = []
        self._open: tuple[Any, ...] | None = None
        self._open_input: dict[str, Any] | None = None
        self._target: dict[str, Any] | None = None
        self._inner: dict[int, _Inner] = {}
        self.called_inside: dict[int, int] = {}
        self.evaluation_mode_calls: list[Any] = []
        self._read_last: Any = None  # by the latest forward without gradients

    def install(self) -> None:
        """Put the hooks on the loss functions."""
        for name in _LOSSES:
            self._recorder.patches.wrap(nn.functional, name, self._loss_called(name))

    # -- entry calls --------------------------------------------------------------------------------------------

    def before_entry(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called from outside every module."""
        recorder = self._recorder
        if not recorder.plan.light:
            calls = recorder.parameters.calls_of(module)
            calls[0] += 1
            calls[1] += torch.is_grad_enabled()
        root, path = recorder.naming.place(module)
        line = recorder.frames.line()
        key = (root, path, tuple(line or ()))
        entry = self._entries.get(key)
        grad = torch.is_grad_enabled()
        if entry is None:
            entry = self._entries[key] = {
                "root": root,
                "root_kind": type(module).__name__,
                "path": path,
                "line": line,
                "forwards": 0,
                "train_mode": 0,
                "grad_enabled": 0,
                "trained": 0,
                "untrained": 0,
                "mode_sensitive": [],
                "after_training": False,
                "first_step": recorder.step,
                "within_window": 0,
                "again": 0,
            }
        entry["forwards"] += 1
        entry["grad_enabled"] += grad
        entry["after_training"] |= recorder.step > 0 or recorder.backwards > 0
        if module.training:
            entry["train_mode"] += 1
            if not entry["mode_sensitive"]:
                entry["mode_sensitive"] = _mode_sensitive(module)
        if not grad and recorder.stepping.all and self._pending:
            entry["within_window"] += 1
        if not grad:
            first = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)), None)
            read = (first.data_ptr(), first.shape, first._version, recorder.step) if first is not None else None
            entry["again"] += read is not None and read == self._read_last
            self._read_last = read
        self._open = key
        self._open_input = None
        if grad and not recorder.plan.light:
            self._note_input(root, path, line, args, kwargs)

    def after_entry(self, module: nn.Module, result: Any) -> None:
        """It returned: remember its place in the autograd graph until the next backward."""
        key, self._open = self._open, None
        if key is None or not torch.is_grad_enabled():
            return
        tensor = _first_differentiable(result)
        if tensor is not None and tensor.grad_fn is not None:
            self._pending.append((key, tensor.grad_fn._sequence_nr()))

    def note_training_entries(self, numbers: set[int]) -> None:
        """A backward was walked: the entries that it contains are training."""
        for key, number in self._pending:
            self._entries[key]["trained" if number in numbers else "untrained"] += 1
        self._pending = []

    def evaluation_seen(self) -> bool:
        """Whether some forward without gradients came after training began."""
        return any(e["after_training"] and e["forwards"] > e["grad_enabled"] for e in self._entries.values())

    def forget_entries(self) -> None:
        """A backward that is not walked."""
        self._pending = []

    def note_inner(self, module: nn.Module, stack: list[nn.Module]) -> None:
        """A module is called within another one."""
        recorder = self._recorder
        known = self._inner.get(id(module))
        # The names are looked up once, and again when modules were made or put together anew since.
        if known is None or known.module() is not module or known.names != recorder.naming.version:
            calls = recorder.parameters.calls_of(module)
            known = _Inner(weakref.ref(module), recorder.naming.version, calls)
            self._inner[id(module)] = known
        if known.outer != id(stack[0]):
            known.outer = id(stack[0])
            root, outer = recorder.naming.place(module)[0], recorder.naming.place(stack[0])[0]
            if root != outer and root >= 0:
                self.called_inside.setdefault(root, outer)
        known.calls[0] += 1
        known.calls[1] += torch.is_grad_enabled()
        if self._open_input is not None and not self._open_input["first_layer"] and not module._modules:
            path = recorder.naming.place(module)[1]
            own = next(module.parameters(recurse=False), None)
            if own is not None:
                self._open_input["first_layer"] = path or type(module).__name__
                self._open_input["first_layer_line"] = recorder.naming.created_line(module)
                self._open_input["normalised_first"] = isinstance(module, _NORMS)

    def _note_input(self, root: int, path: str, line: Any, args: Any, kwargs: Any) -> None:
        named = [("input", value) for value in args] + list(kwargs.items())
        for name, value in named:  # noqa: B007 (used below)
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.requires_grad:
                break
        else:
            return
        if value.dim() < 2 or not value.numel() or value.is_sparse:
            return
        record = self._inputs.get((root, path))
        axis = 1 if value.dim() == 4 else value.dim() - 1
        if record is None:
            record = self._inputs[(root, path)] = {
                "root": root, "path": path, "name": name, "shape": list(value.shape), "axis": axis, "batches": 0,
                "samples": 0, "sum": 0.0, "square": 0.0, "count": 0, "minimum": None, "maximum": None,
                "first_layer": "", "first_layer_line": None, "normalised_first": False,
                "dtype": str(value.dtype)[6:], "line": line,
            }  # fmt: skip
        self._open_input = record
        if record["batches"] >= _MOST_BATCHES or value.shape[axis] != record["shape"][axis]:
            return
        with torch.no_grad(), self._recorder.taping.quiet():
            rows = value.detach().movedim(axis, 0).reshape(value.shape[axis], -1).double()
            record["batches"] += 1
            record["samples"] += value.shape[0]
            record["count"] += rows.shape[1]
            record["sum"] = record["sum"] + rows.sum(1)
            record["square"] = record["square"] + rows.square().sum(1)
            low, high = float(rows.min()), float(rows.max())
            record["minimum"] = low if record["minimum"] is None else min(low, record["minimum"])
            record["maximum"] = high if record["maximum"] is None else max(high, record["maximum"])

    # -- losses -------------------------------------------------------------------------------------------------

    def _loss_called(self, name: str) -> Any:
        def around(original: Any, *args: Any, **kwargs: Any) -> Any:
            recorder = self._recorder
            if torch.compiler.is_compiling():
                return original(*args, **kwargs)
            input = args[0] if args else kwargs.get("input", kwargs.get("log_probs"))
            target = args[1] if len(args) > 1 else kwargs.get("target", kwargs.get("targets"))
            if not recorder.plan.light and isinstance(input, torch.Tensor) and isinstance(target, torch.Tensor):
                with torch.no_grad(), recorder.taping.quiet():
                    self._note_loss(name, input, target, kwargs)
            return original(*args, **kwargs)

        return around

    def _note_loss(self, name: str, input: torch.Tensor, target: torch.Tensor, kwargs: Any) -> None:
        recorder = self._recorder
        line = recorder.frames.line()
        training = bool(input.requires_grad)
        key = (name, tuple(line or ()), training)
        record = self._losses.get(key)
        if record is None:
            record = self._losses[key] = {
                "function": name, "line": line, "input_shape": list(input.shape), "target_shape": list(target.shape),
                "target_dtype": str(target.dtype)[6:], "calls": 0, "input_minimum": None, "input_maximum": None,
                "row_sums_to_one": True, "reduction": str(kwargs.get("reduction", "mean")), "in_training": training,
                "module": recorder.naming.place(recorder.stack[-1])[1] if recorder.stack else "",
                "labels": [], "label_count": 0, "target_sum": 0.0, "target_square": 0.0, "target_number": 0,
                "target_minimum": None, "target_maximum": None, "step": recorder.step,
            }  # fmt: skip
        record["calls"] += 1
        if record["calls"] <= 3 and input.is_floating_point() and input.numel():
            low, high = float(input.detach().min()), float(input.detach().max())
            record["input_minimum"] = low if record["input_minimum"] is None else min(low, record["input_minimum"])
            record["input_maximum"] = high if record["input_maximum"] is None else max(high, record["input_maximum"])
            sums = input.detach().float().sum(1 if input.dim() > 1 else 0)
            record["row_sums_to_one"] &= bool(input.dim() > 1 and low >= 0 and (sums - 1).abs().max() < 1e-3)
        if training and record["label_count"] < _MOST_LABELS:
            self._note_target(record, target)

    def _note_target(self, record: dict[str, Any], target: torch.Tensor) -> None:
        values = target.detach()
        flat = values.reshape(-1)
        record["label_count"] += flat.numel()
        if not flat.numel() or values.is_complex():
            return
        if not values.is_floating_point() and values.dim() == 1:
            record["labels"].append(flat[:512].tolist())
        elif values.is_floating_point() and flat.numel() == values.shape[0] and _whole(flat):
            record["labels"].append([int(value) for value in flat[:512].tolist()])
        if values.is_floating_point():
            wide = flat.double()
            record["target_sum"] += float(wide.sum())
            record["target_square"] += float(wide.square().sum())
            record["target_number"] += flat.numel()
            low, high = float(wide.min()), float(wide.max())
            record["target_minimum"] = (
                min(low, record["target_minimum"]) if record["target_minimum"] is not None else low
            )
            record["target_maximum"] = (
                max(high, record["target_maximum"]) if record["target_maximum"] is not None else high
            )

    # -- report -------------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Events for inputs, loss places and entry places."""
        emit = self._recorder.stream.emit
        if self._recorder.plan.light:
            return
        for record in self._inputs.values():
            count = max(1, record.pop("count"))
            mean = torch.as_tensor(record.pop("sum")) / count
            square = torch.as_tensor(record.pop("square")) / count
            std = (square - mean.square()).clamp_min(0).sqrt()
            emit("input", mean=mean.reshape(-1).tolist(), std=std.reshape(-1).tolist(), **record)
        for record in self._losses.values():
            emit("loss-call", **record)
        for record in self._entries.values():
            emit("entry", **record)


def _mode_sensitive(module: nn.Module) -> list[str]:
    found = []
    for path, part in module.named_modules():
        if not part.training or not isinstance(part, _MODE_SENSITIVE):
            continue
        known = settings(part)
        if isinstance(part, nn.modules.dropout._DropoutNd):
            if known.get("p"):
                found.append(f"{path or '.'} ({type(part).__name__} p={known['p']:g})")
        else:
            found.append(f"{path or '.'} ({type(part).__name__})")
        if len(found) >= 12:
            break
    return found


def _whole(values: torch.Tensor) -> bool:
    return bool((values == values.round()).all()) and float(values.min()) >= 0 and float(values.max()) < 10_000


def _first_differentiable(result: Any) -> torch.Tensor | None:
    if isinstance(result, torch.Tensor):
        return result if result.requires_grad else None
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    for value in values:
        found = _first_differentiable(value)
        if found is not None:
            return found
    return None
