"""Evaluations: on which samples, and what the program does with the outputs until the next forward."""

from __future__ import annotations

import linecache
import sys
import weakref
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode, _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader, Subset

from doctor.observe import carried, divisions, unread
from doctor.observe.fingerprints import fingerprints
from doctor.observe.tape import TapeMode
from doctor.observe.watch import Watch

_MOST_WINDOWS = 12
_MOST_OPS = 80
_MOST_ROWS = 20_000


class EvaluationWatch(Watch):
    """Evaluation forwards after training began, and the rows of all batches."""

    def install(self) -> None:
        """Note the data sets of loaders."""
        self._tape: TapeMode | None = None
        self._windows: list[dict[str, Any]] = []
        self._head: dict[str, Any] = {}
        self._codes: set[Any] = set()
        self._divisions: list[dict[str, Any]] = []
        self._collapsed: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._compared: set[Any] = set()
        self._carried: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._trained: set[int] = set()
        self._steps: list[tuple[int, int]] = []
        self._places: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._datasets: list[tuple[weakref.ref[Any], int, tuple[int, ...]]] = []
        self.recorder.patches.wrap(DataLoader, "__init__", self._loader)

    def _loader(self, original: Any, loader: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(loader, *args, **kwargs)
        self.guarded(self._note_loader)(loader)
        return result

    def _note_loader(self, loader: Any) -> None:
        dataset, rows = loader.dataset, tuple[int, ...]()
        while isinstance(dataset, Subset):
            rows = tuple(dataset.indices) if not rows else tuple(dataset.indices[i] for i in rows)
            dataset = dataset.dataset
        index = getattr(loader, "_doctor_index", len(self._datasets))
        tensors = getattr(dataset, "tensors", None)
        identity = id(tensors[0]) if isinstance(tensors, tuple) and tensors else id(dataset)
        self._datasets.append((weakref.ref(loader), index, (identity, hash(tuple(sorted(map(int, rows)))))))

    # -- forwards -----------------------------------------------------------------------------------------------

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The last evaluation's outputs have been used."""
        self._close()

    def before_backward(self, losses: list[torch.Tensor]) -> None:
        """Likewise."""
        self._close()

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Likewise."""
        self._close()

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Likewise: the tape of the next step may begin."""
        self._close()

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Note the rows; after an evaluation, watch what becomes of the output."""
        recorder = self.recorder
        rows = _rows([*args, *kwargs.values()])
        output = _output(result)
        evaluates = output is not None and not output.requires_grad
        root, _ = recorder.naming.place(module)
        if not evaluates:
            if module.training and rows and len(self._trained) < _MOST_ROWS:
                self._trained.update(rows)
                self._steps.append((len(rows), len(self._trained)))
            self._compare(_output(result))
            return
        if recorder.step == 0 or output is None:
            return
        frames = _user_frames(recorder)
        if not frames:
            return
        line = [recorder.frames.name(frames[0].f_code.co_filename), frames[0].f_lineno, frames[0].f_code.co_name]
        # Two calls of one function, or one over two loaders, are two evaluations.
        key = (root, *((f.f_code, f.f_lineno) for f in frames), recorder.loaders._last)
        self._note_place(key, line, rows, frames)
        self._compare(output)
        for frame in frames:
            if frame.f_code not in self._codes:
                self._codes.add(frame.f_code)
                path = recorder.frames.name(frame.f_code.co_filename)
                for found in divisions.find(frame):
                    found["line"] = [path, found["line"], frame.f_code.co_name]
                    self._divisions.append(found)
                for found in carried.find(frame):
                    found["line"] = [path, found["line"], frame.f_code.co_name]
                    self._carried.setdefault((found["name"], path), found)
        if len(self._windows) < _MOST_WINDOWS and not _foreign_modes():
            self._open(output, line)

    def _compare(self, output: torch.Tensor | None) -> None:
        """Where the innermost function of the user's compares labels with an argmax over all samples of such an output."""
        if output is None or output.dim() < 2 or len(output) < 2 or len(self._compared) >= _MOST_WINDOWS:
            return
        for frame in _user_frames(self.recorder)[:1]:
            key = (frame.f_code, frame.f_lineno)
            if key in self._compared:
                continue
            self._compared.add(key)
            path = self.recorder.frames.name(frame.f_code.co_filename)
            for found in divisions.collapsed(frame, frame.f_lineno):
                place = [path, found["line"], frame.f_code.co_name]
                self._collapsed[tuple(place)] = {"text": found["text"], "shape": list(output.shape), "line": place}

    def _open(self, output: torch.Tensor, line: list[Any]) -> None:
        tape = TapeMode(self.recorder.context, self.recorder.parameters.name, values=False)
        self._head = {"output": tape.know(output), "shape": list(output.shape), "forward": line}
        self._tape = tape
        tape.__enter__()

    def _close(self) -> None:
        tape = self._tape
        if tape is None or _get_current_dispatch_mode() is not tape:
            return
        self._tape = None
        tape.__exit__(None, None, None)
        self._windows.append({**self._head, "step": self.recorder.step, "ops": tape.ops[:_MOST_OPS]})

    def _note_place(self, key: tuple[Any, ...], line: list[Any], rows: list[int], frames: list[FrameType]) -> None:
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= 100:
                return
            texts = [linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() for frame in frames]
            lines = [
                [self.recorder.frames.name(frame.f_code.co_filename), frame.f_lineno, frame.f_code.co_name]
                for frame in frames
            ]
            place = self._places[key] = {
                "line": line, "texts": texts, "lines": lines, "rows": set(), "forwards": 0, "seen": 0, "repeats": 0,
                "loaders": set(), "unread": sorted({name for frame in frames for name in unread.held_out(frame)}),
            }  # fmt: skip
        place["forwards"] += 1
        place["seen"] += len(rows)
        place["repeats"] += len(rows) - len(set(rows))
        if len(place["rows"]) < _MOST_ROWS:
            place["rows"].update(rows)
        if self.recorder.loaders._last is not None:
            place["loaders"].add(self.recorder.loaders._last)

    def finish(self) -> None:
        """Windows, divisions, places and data sets."""
        self._close()
        emit = self.recorder.stream.emit
        for window in self._windows:
            emit("evaluation-tape", **window)
        for division in self._divisions[:20]:
            emit("metric-division", **division)
        for sums in list(self._carried.values())[:20]:
            emit("metric-carried", **sums)
        for comparison in self._collapsed.values():
            emit("metric-collapse", **comparison)
        whole = bool(self._steps) and all(size == self._steps[0][1] for _, size in self._steps)
        for place in self._places.values():
            hits = len(place["rows"] & self._trained)
            emit(
                "evaluation-rows",
                line=place["line"],
                lines=place["lines"],
                texts=place["texts"],
                rows=len(place["rows"]),
                trained=len(self._trained),
                shared=hits,
                whole=whole,
                repeated=place["repeats"] / max(1, place["seen"]),
                forwards=place["forwards"],
                loaders=sorted(place["loaders"]),
                unread=place["unread"],
            )
        for _, index, identity in self._datasets:
            emit("dataset", loader=index, identity=list(identity))


def _foreign_modes() -> bool:
    return any(not isinstance(mode, TapeMode) for mode in _get_current_dispatch_mode_stack())


def _user_frames(recorder: Any) -> list[FrameType]:
    found: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < 3:
        if recorder.frames.name(frame.f_code.co_filename) is not None:
            found.append(frame)
        frame = frame.f_back
    return found


def _output(result: Any) -> torch.Tensor | None:
    if isinstance(result, torch.Tensor):
        return result
    if isinstance(getattr(result, "logits", None), torch.Tensor):
        return result.logits  # type: ignore[no-any-return]
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    return next((value for value in values if isinstance(value, torch.Tensor)), None)


def _rows(values: list[Any]) -> list[int]:
    """A number for each row of the first tensor: the same for the same contents only."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if any(value.dim() == 1 and len(value) > 1 and not value.is_floating_point() for value in tensors):
        return []  # users and items by their numbers: the same ones stand in every split
    tensor = next((value for value in tensors if value.dim() >= 2 and value.numel()), None)
    if tensor is None or tensor.is_sparse or tensor.is_complex() or len(tensor) > _MOST_ROWS:
        return []
    found: list[int] = fingerprints([tensor.detach()]).tolist()
    return found
