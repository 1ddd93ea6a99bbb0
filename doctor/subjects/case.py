"""Declared cases: a model, its data, its loss and its optimizer, trained by the built-in reference trainer."""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError
from doctor.evidence.recording import Recording
from doctor.subjects.program import Run


@dataclass
class Case:
    """Something that trains, declared.

    `model` is a module or a function that builds one. `data` yields `(inputs, targets)` pairs (or dictionaries that
    the model takes by name) and can be iterated again and again: a DataLoader, a list of batches, or a function that
    gives one. `loss(outputs, targets)` returns a scalar (`loss(outputs)` for dictionaries). `optimizer` is a function
    of the parameters, or an optimizer over the model's parameters; AdamW at 1e-3 when None. `val` is evaluated
    without gradients after each pass over `data`.
    """

    model: Any
    data: Any
    loss: Callable[..., Any]
    optimizer: Any = None
    val: Any = None
    name: str = "case"
    parallel: bool = False

    def run(self, run: Run, on_step: Callable[[int], None] | None = None) -> Recording:
        """Train copies of model and optimizer in this process, under observation."""
        import torch

        from doctor.observe.observed import observe
        from doctor.observe.plan import Plan, activation_steps
        from doctor.observe.stream import ListStream

        stream = ListStream()
        with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
            plan = Plan(
                target=self.name,
                events="",
                scratch=scratch,
                steps=run.steps,
                soft_seconds=run.soft_seconds,
                activation_steps=() if run.light else activation_steps(run.steps),
                hunt_step=run.hunt_step,
                treatments=tuple(treatment.plan() for treatment in run.treatments),
                light=run.light,
                parent=os.getpid(),
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(run.seed_offset)
                observe(plan, stream, lambda: train(self, run.steps))
        return Recording(tuple(stream.events))

    def prepared(self, recording: Recording) -> AbstractContextManager[Case]:
        """The case itself: it runs in this process."""
        return nullcontext(self)


def train(case: Case, steps: int) -> None:
    """The reference trainer: an ordinary loop over a copy of the case, for at least `steps` steps."""
    import torch

    torch.set_grad_enabled(True)
    model, optimizer = _fresh(case)
    done = 0
    # One step more than asked for, so that it is the observer's budget that ends the run.
    while done <= steps:
        before = done
        model.train()
        for batch in _batches(case.data):
            optimizer.zero_grad()
            loss = _loss(case, model, batch)
            loss.backward()
            optimizer.step()
            done += 1
            if done > steps:
                return
        if done == before:
            raise DoctorError(f"{case.name}: data gives no batch", "pass a non-empty iterable that can be repeated")
        if case.val is not None:
            model.eval()
            with torch.no_grad():
                for batch in islice(_batches(case.val), 4):
                    _loss(case, model, batch)


def _fresh(case: Case) -> tuple[Any, Any]:
    import torch

    given = case.optimizer
    if isinstance(case.model, torch.nn.Module):
        if isinstance(given, torch.optim.Optimizer):
            model, optimizer = copy.deepcopy((case.model, given))
            # deepcopy passes by the constructors that the observer watches: build the optimizer anew over the copies.
            rebuilt = type(optimizer)(optimizer.param_groups, **_defaults(optimizer))
            return model, rebuilt
        model = copy.deepcopy(case.model)
    else:
        model = case.model()
    if given is None:
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3)
    if isinstance(given, torch.optim.Optimizer):
        raise DoctorError(f"{case.name}: an optimizer object goes with a model object", "give functions for both")
    try:
        return model, given(model.parameters())
    except (TypeError, AttributeError):
        return model, given(model)


def _defaults(optimizer: Any) -> dict[str, Any]:
    import inspect

    known = inspect.signature(type(optimizer).__init__).parameters
    return {key: value for key, value in optimizer.defaults.items() if key in known}


def _batches(data: Any) -> Iterable[Any]:
    import torch

    if callable(data) and not isinstance(data, torch.utils.data.DataLoader):
        data = data()
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, torch.Tensor) for part in data):
        return [data]
    return data  # type: ignore[no-any-return]


def _loss(case: Case, model: Any, batch: Any) -> Any:
    if isinstance(batch, dict):
        return case.loss(model(**batch))
    *inputs, target = batch
    return case.loss(model(*inputs), target)


def load(path: str, name: str) -> Case:
    """The case of this name in a module file; raises DoctorError when there is none."""
    module = _module(path)
    found = getattr(module, name, None)
    if callable(found) and not isinstance(found, Case):
        found = found()
    if not isinstance(found, Case):
        raise DoctorError(f"{path} has no case {name}", f"its cases: {', '.join(_declared(module)) or 'none'}")
    found.name = name if found.name == "case" else found.name
    return found


def names(path: str) -> list[str]:
    """The names of the cases that a module file declares."""
    return _declared(_module(path))


def _declared(module: Any) -> list[str]:
    return [key for key, value in vars(module).items() if isinstance(value, Case)]


def _module(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise DoctorError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def train_declared(path: str, name: str, steps: int) -> None:
    """Load a case and train it; run in the observed process."""
    train(load(path, name), steps)
