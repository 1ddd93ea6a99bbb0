"""Statistics of what models are fed: moments by channel, values that are not finite, numbers that stand for missing ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from doctor.observe import entries
from doctor.observe.frames import Line
from doctor.observe.watch import Watch

_ENOUGH_BATCHES = 24
_MOST_ELEMENTS = 60_000_000  # read, in all
_MOST_ROWS = 2000
_MOST_COLUMNS = 256


@dataclass
class _Moments:
    """Statistics by channel of the first floating-point input of one shape, in training or in evaluation."""

    batches: int = 0
    samples: int = 0
    count: int = 0
    total: Any = 0.0
    square: Any = 0.0
    spread: Any = 0.0  # of the means of the samples
    low: Any = None
    high: Any = None
    non_finite: int = 0
    bad_columns: set[int] = field(default_factory=set)
    line: Line | None = None
    others: int = 0  # further tensors that came with it


class StatisticsWatch(Watch):
    """Statistics of the first floating-point input of every root, in training and in evaluation."""

    def install(self) -> None:
        """Nothing to patch."""
        self._moments: dict[Any, dict[str, _Moments]] = {}
        self._rows: dict[Any, list[torch.Tensor]] = {}
        self._broken: dict[Any, dict[str, Any]] = {}
        self._elements = 0

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A model returned: note what it was called with."""
        entry = entries.entry(self.recorder, module, args, kwargs, result)
        computed = any(v.requires_grad for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor))
        if entry is not None and not computed:  # what another model computes moves as that learns
            self._note_moments(entry.place, entry.kind, entry.named, entry.output)

    def _note_moments(self, place: tuple[int, str], kind: str, named: Any, output: torch.Tensor) -> None:
        found = next(((n, v) for n, v in named if v.is_floating_point() and v.dim() >= 2), None)
        if found is None:
            return
        name, value = found
        if self._elements > _MOST_ELEMENTS:
            return
        self._elements += value.numel()
        axis = 1 if value.dim() == 4 else value.dim() - 1
        if value.shape[axis] > 4096:
            return
        key = (*place, name, value.dim(), value.shape[axis])
        kind = "train" if kind == "train" else "eval"
        moments = self._moments.setdefault(key, {}).setdefault(kind, _Moments())
        moments.line = moments.line or self.recorder.frames.line()
        moments.others = max(moments.others, len(named) - 1)
        if moments.batches >= _ENOUGH_BATCHES and bool(torch.isfinite(value.sum())):
            return  # a mean over so many batches stands; what is not finite is still looked for
        rows = value.movedim(axis, -1).reshape(len(value), -1, value.shape[axis]).double()
        finite = torch.isfinite(rows)
        if not finite.all():
            bad = (~finite).sum((0, 1))
            moments.non_finite += int(bad.sum())
            moments.bad_columns.update(bad.nonzero()[:, 0].tolist()[:64])
            if not torch.isfinite(output.float()).all():
                self._note_broken(place, kind, value, bad)
            rows = torch.where(finite, rows, torch.zeros_like(rows))
        means = rows.mean(1)
        moments.batches += 1
        moments.samples += len(value)
        moments.count += rows.shape[0] * rows.shape[1]
        moments.total = moments.total + rows.sum((0, 1)).cpu()
        moments.square = moments.square + rows.square().sum((0, 1)).cpu()
        moments.spread = moments.spread + means.square().sum(0).cpu()
        low, high = rows.amin((0, 1)).cpu(), rows.amax((0, 1)).cpu()
        moments.low = low if moments.low is None else torch.minimum(moments.low, low)
        moments.high = high if moments.high is None else torch.maximum(moments.high, high)
        if kind == "train" and value.dim() == 2:
            kept = self._rows.setdefault(key, [])
            if sum(map(len, kept)) < _MOST_ROWS:
                kept.append(value[:, :_MOST_COLUMNS].float().cpu().clone())

    def _note_broken(self, place: tuple[int, str], kind: str, value: torch.Tensor, bad: torch.Tensor) -> None:
        record = self._broken.get(place)
        if record is None:
            self._broken[place] = {
                "kind": kind, "line": self.recorder.frames.line(), "step": self.recorder.step,
                "values": int(bad.sum()), "of": value.numel(), "columns": bad.nonzero()[:, 0].tolist()[:16],
                "nan": bool(torch.isnan(value).any()), "width": len(bad), "batches": 1,
            }  # fmt: skip
        else:
            record["batches"] += 1

    def finish(self) -> None:
        """The events."""
        emit = self.recorder.stream.emit
        for (root, _), record in self._broken.items():
            emit("non-finite-input", root=root, **record)
        for key, kinds in self._moments.items():
            for kind, found in kinds.items():
                emit("input-moments", **_moments_event(key, kind, found))
        for key, kept in self._rows.items():
            sentinels = _sentinels(torch.cat([rows for rows in kept if rows.shape[1] == kept[0].shape[1]]))
            if sentinels:
                emit("sentinels", root=key[0], line=self._moments[key]["train"].line, columns=sentinels)


def _sentinels(rows: torch.Tensor) -> list[dict[str, Any]]:
    """Columns whose most extreme value is repeated exactly and lies farther off than the others reach."""
    found = []
    for index, column in enumerate(rows.T):
        column = column[torch.isfinite(column)]
        if len(column) < 64:
            continue
        for extreme in (float(column.min()), float(column.max())):
            rest = column[column != extreme]
            share = 1 - len(rest) / len(column)
            if len(column) - len(rest) < 5 or not 0.005 < share < 0.5 or len(torch.unique(rest)) < 12:
                continue
            low, high = float(rest.min()), float(rest.max())
            gap = low - extreme if extreme < low else extreme - high
            if gap > 1.5 * (high - low):
                found.append({
                    "column": index, "value": extreme, "share": share, "median": float(rest.median()),
                    "low": low, "high": high,
                })  # fmt: skip
    return found[:32]


def _moments_event(key: Any, kind: str, found: _Moments) -> dict[str, Any]:
    mean = found.total / found.count
    std = (found.square / found.count - mean.square()).clamp_min(0).sqrt()
    between = (found.spread / found.samples - mean.square()).clamp_min(0).sqrt()
    return {
        "root": key[0], "path": key[1], "name": key[2], "dims": key[3], "kind": kind, "line": found.line,
        "batches": found.batches, "samples": found.samples, "mean": mean.tolist(), "std": std.tolist(),
        "between": between.tolist(), "low": found.low.tolist(), "high": found.high.tolist(),
        "others": found.others, "non_finite": found.non_finite, "bad_columns": sorted(found.bad_columns),
    }  # fmt: skip
