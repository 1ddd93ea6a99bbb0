"""Treatments at work: how each is applied to the running program. Runs in the observed process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from doctor.observe import graph
from doctor.observe.optimizers import parameters_of

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder

Plan = dict[str, Any]


class Intervention:
    """One treatment applied to one run. Subclasses install themselves in `__init__` and undo it in `remove`."""

    def __init__(self, plan: Plan, recorder: Recorder) -> None:
        self.plan = plan
        self.recorder = recorder
        self.install()

    def install(self) -> None:
        """Put the treatment in place."""

    def remove(self) -> None:
        """Take it away."""

    def notes(self) -> list[dict[str, Any]]:
        """What it measured, for experiments."""
        return []

    def concerns(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the treatment is meant for this optimizer."""
        wanted = self.plan.get("optimizer")
        known = [watched.index for watched in self.recorder.watched if watched.optimizer() is optimizer]
        return wanted is None or wanted in known

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The living optimizers that it is meant for."""
        alive = [watched.optimizer() for watched in self.recorder.watched]
        return [optimizer for optimizer in alive if optimizer is not None and self.concerns(optimizer)]


class ScaleLearningRate(Intervention):
    """Scales the rate for the moment of each step, so that every kind of schedule keeps its shape."""

    def install(self) -> None:
        """Around every step."""
        self._saved: list[tuple[dict[str, Any], Any]] = []
        self.recorder.before_step.append(self._scale)
        self.recorder.after_step.append(self._restore)

    def _scale(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            if "lr" in group:
                self._saved.append((group, group["lr"]))
                group["lr"] = group["lr"] * self.plan["factor"]

    def _restore(self, optimizer: torch.optim.Optimizer) -> None:
        while self._saved:
            group, rate = self._saved.pop()
            group["lr"] = rate


class ClearGradients(Intervention):
    """Clears what the last step left, before the first backward after it."""

    def install(self) -> None:
        """After steps and before backwards."""
        self._due: list[torch.optim.Optimizer] = []
        self.recorder.after_step.append(lambda optimizer: self._due.append(optimizer))
        self.recorder.before_backward.append(self._clear)

    def _clear(self, losses: list[torch.Tensor]) -> None:
        due, self._due = self._due, []
        for optimizer in due:
            if self.concerns(optimizer):
                for tensor in parameters_of(optimizer):
                    tensor.grad = None


class StepAfterBackward(Intervention):
    """Steps after every backward."""

    def install(self) -> None:
        """Around backward."""
        self.recorder.before_backward.append(self._clear)
        self.recorder.after_backward.append(self._step)

    def _clear(self, losses: list[torch.Tensor]) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()

    def _step(self, losses: list[torch.Tensor]) -> None:
        for optimizer in self.optimizers():
            optimizer.step()


class BackwardBeforeStep(Intervention):
    """Runs backward from the scalar that was computed last."""

    def install(self) -> None:
        """Watch every operation for scalars that need a gradient."""
        self._last: torch.Tensor | None = None
        self._mode = _Watching(self._note)
        self._mode.__enter__()
        self.recorder.before_step.append(self._backward)

    def remove(self) -> None:
        """Stop watching."""
        self._mode.__exit__(None, None, None)

    def _note(self, result: Any) -> None:
        if isinstance(result, torch.Tensor) and result.dim() == 0 and result.requires_grad:
            self._last = result

    def _backward(self, optimizer: torch.optim.Optimizer) -> None:
        loss, self._last = self._last, None
        if loss is not None and self.concerns(optimizer):
            for tensor in parameters_of(optimizer):
                tensor.grad = None
            with torch.enable_grad():
                torch.autograd.backward(loss)


class OptimizeReachedParameters(Intervention):
    """Adds what the loss reaches and no optimizer holds to the first group of the optimizer."""

    def install(self) -> None:
        """At the first backwards."""
        self._left = 3
        self.recorder.before_backward.append(self._add)

    def _add(self, losses: list[torch.Tensor]) -> None:
        chosen = self.optimizers()
        if not self._left or not chosen:
            return
        self._left -= 1
        held = {
            id(tensor)
            for watched in self.recorder.watched
            for optimizer in [watched.optimizer()]
            if optimizer is not None
            for tensor in parameters_of(optimizer)
        }
        leaves = graph.walk(losses).leaves
        new = [leaf for leaf in leaves if isinstance(leaf, nn.Parameter) and id(leaf) not in held]
        if new:
            for leaf in new:
                leaf.grad = None
            chosen[0].param_groups[0]["params"].extend(new)


class ClipGradients(Intervention):
    """Clips the global norm before each step."""

    def install(self) -> None:
        """Before steps."""
        self.recorder.before_step.append(self._clip)

    def _clip(self, optimizer: torch.optim.Optimizer) -> None:
        torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), self.plan["max_norm"])


class Reinitialise(Intervention):
    """Draws the parameters of some modules anew, before the first forward."""

    def install(self) -> None:
        """At the first call of a module."""
        self._done: set[int] = set()
        self._handle = register_module_forward_pre_hook(self._before)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _before(self, module: nn.Module, args: Any) -> None:
        if len(self.recorder.stack) != 1 or id(module) in self._done or self.recorder.step > 0:
            return
        self._done.add(id(module))
        with torch.random.fork_rng(devices=[]):
            for part in module.modules():
                if self.recorder.naming.place(part)[1] in self.plan["modules"]:
                    for inner in part.modules():
                        reset = getattr(inner, "reset_parameters", None)
                        if callable(reset):
                            reset()


class InsertActivation(Intervention):
    """Applies an activation to the outputs of some modules."""

    def install(self) -> None:
        """After their forwards."""
        self._function: Callable[[torch.Tensor], torch.Tensor] = getattr(torch.nn.functional, self.plan["function"])
        self._handle = register_module_forward_hook(self._after)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self.recorder.naming.place(module)[1] in self.plan["modules"] and isinstance(output, torch.Tensor):
            return self._function(output)
        return None


class StandardiseInputs(Intervention):
    """Standardises the first floating-point input of the root."""

    def install(self) -> None:
        """Before entry calls."""
        self._mean, self._std = torch.tensor(self.plan["mean"]), torch.tensor(self.plan["std"]).clamp_min(1e-12)
        self._handle = register_module_forward_pre_hook(self._before)

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _before(self, module: nn.Module, args: Any) -> Any:
        if len(self.recorder.stack) != 1 or self.recorder.naming.place(module)[0] != self.plan["root"]:
            return None
        changed, done = [], False
        for value in args:
            if not done and self._fits(value):
                shape = [1] * value.dim()
                shape[self.plan["axis"]] = -1
                mean, std = self._mean.to(value).view(shape), self._std.to(value).view(shape)
                changed.append((value - mean) / std)
                done = True
            else:
                changed.append(value)
        return tuple(changed) if done else None

    def _fits(self, value: Any) -> bool:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.requires_grad:
            return False
        axis = self.plan["axis"]
        return value.dim() > axis and value.shape[axis] == len(self._mean)


class ShuffleData(Intervention):
    """Makes one DataLoader draw at random."""

    def install(self) -> None:
        """When it is built."""
        self.recorder.loaders.on_created = self._created

    def _created(self, index: int, args: Any, kwargs: Any) -> Any:
        if index != self.plan["loader"]:
            return args, kwargs
        dataset = args[0] if args else kwargs.get("dataset")
        if isinstance(dataset, torch.utils.data.IterableDataset):
            return args, kwargs
        if len(args) > 2:
            args = (*args[:2], True, *args[3:])
        else:
            kwargs = {**kwargs, "shuffle": True}
        kwargs.pop("sampler", None)
        return args, kwargs


class EvaluateInEvalMode(Intervention):
    """Experiment: repeats evaluation forwards in eval mode and measures how far the outputs differ."""

    def install(self) -> None:
        """After entry calls."""
        self._differences: list[float] = []
        self._decisions: list[float] = []
        self.recorder.after_entry.append(self._compare)

    def _compare(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        if torch.is_grad_enabled() or not module.training or len(self._differences) >= 8:
            return
        modes = [(part, part.training) for part in module.modules()]
        for part, _ in modes:
            part.training = False
        self.recorder.busy = True
        try:
            with torch.random.fork_rng(devices=[]):
                other = module(*args, **kwargs)
        finally:
            self.recorder.busy = False
            for part, mode in modes:
                part.training = mode
        one, two = _first_tensor(result), _first_tensor(other)
        if one is None or two is None or one.shape != two.shape or not one.is_floating_point():
            return
        scale = float(two.float().std(correction=0)) or float(two.float().abs().mean()) or 1.0
        self._differences.append(float((one - two).float().square().mean().sqrt()) / scale)
        if one.dim() == 2 and one.shape[1] > 1:
            self._decisions.append(float((one.argmax(1) != two.argmax(1)).float().mean()))

    def notes(self) -> list[dict[str, Any]]:
        """Relative differences, and the share of decisions that changed."""
        return [{"kind": "eval-mode", "differences": self._differences, "decisions": self._decisions}]


class _FunctionMode(TorchFunctionMode):
    def __init__(self, replace: Callable[[Any, str, Any, Any], Any]) -> None:
        super().__init__()
        self._replace = replace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._replace(func, getattr(func, "__name__", ""), args, kwargs or {})


class _Watching(TorchFunctionMode):
    def __init__(self, note: Callable[[Any], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._note(result)
        return result


class ByFunction(Intervention):
    """A treatment that changes calls of torch functions."""

    def install(self) -> None:
        """In front of every torch function."""
        self._mode = _FunctionMode(self.replace)
        self._mode.__enter__()

    def remove(self) -> None:
        """No longer."""
        self._mode.__exit__(None, None, None)

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Call the function, or something else."""
        return func(*args, **kwargs)

    def here(self) -> bool:
        """Whether the running line and module are those of the plan."""
        if self.plan.get("module"):
            stack = self.recorder.stack
            return bool(stack) and self.recorder.naming.place(stack[-1])[1] == self.plan["module"]
        place = self.plan.get("place") or {}
        if not place.get("path"):
            return True
        line = self.recorder.frames.line()
        return line is not None and line[0] == place["path"] and (not place["line"] or line[1] == place["line"])


class BypassActivation(ByFunction):
    """An activation becomes the identity at one place."""

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Leave it out."""
        if name.rstrip("_") == self.plan["function"] and self.here():
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


class ReplaceActivation(ByFunction):
    """One activation is computed by another."""

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Compute the other."""
        if name.rstrip("_") == self.plan["function"] and torch.is_tensor(args[0] if args else None):
            return getattr(torch.nn.functional, self.plan["replacement"])(args[0])
        return func(*args, **kwargs)


class AlignTarget(ByFunction):
    """Two operands that differ by an axis of length 1 get one shape."""

    _functions = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "sub", "rsub", "__sub__", "__rsub__",
                            "__mul__", "mul"})  # fmt: skip

    def replace(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Reshape the second like the first."""
        pair = [value for value in args[:2] if isinstance(value, torch.Tensor)]
        if len(pair) < 2:
            pair = [kwargs[key] for key in ("input", "target") if key in kwargs] if not args else pair
        if name in self._functions and len(pair) == 2 and pair[0].shape != pair[1].shape and self.here():
            one, two = pair
            if one.numel() == two.numel():
                if len(args) >= 2:
                    args = (one, two.reshape(one.shape), *args[2:])
                else:
                    kwargs = {**kwargs, "target": two.reshape(one.shape)}
        return func(*args, **kwargs)


_KINDS: dict[str, type[Intervention]] = {
    "scale-learning-rate": ScaleLearningRate,
    "clear-gradients": ClearGradients,
    "step-after-backward": StepAfterBackward,
    "backward-before-step": BackwardBeforeStep,
    "optimize-reached-parameters": OptimizeReachedParameters,
    "clip-gradients": ClipGradients,
    "reinitialise": Reinitialise,
    "insert-activation": InsertActivation,
    "standardise-inputs": StandardiseInputs,
    "shuffle-data": ShuffleData,
    "evaluate-in-eval-mode": EvaluateInEvalMode,
    "bypass-activation": BypassActivation,
    "replace-activation": ReplaceActivation,
    "align-target": AlignTarget,
}


def apply(plan: Plan, recorder: Recorder) -> Intervention:
    """Put the treatment of this plan in place; raises KeyError for one that is unknown."""
    return _KINDS[plan["kind"]](plan, recorder)


def _first_tensor(result: Any) -> torch.Tensor | None:
    if isinstance(result, torch.Tensor):
        return result
    if hasattr(result, "logits"):
        return _first_tensor(result.logits)
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    return next((value for value in values if isinstance(value, torch.Tensor)), None)
