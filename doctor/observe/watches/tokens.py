"""Token ids of inputs and targets: how far the targets are shifted, and whether padding counts in the loss."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_LAGS = (-1, 0, 1, 2, 3)
_MOST_CALLS = 6
_MOST_ELEMENTS = 200_000
_NO_INPUTS = ("label", "target", "mask", "position", "type", "length")
_DECODED = ("target", "label")
_SHORT_NO_INPUTS = ("y", "yb", "tgt_y", "trg_y")


class TokenWatch(Watch):
    """Cross-entropies over positions of a sequence whose token ids went into the model."""

    def install(self) -> None:
        """In front of the losses over classes."""
        self._ids: list[torch.Tensor] = []
        self._decoded: list[torch.Tensor] = []
        self._masks: list[torch.Tensor] = []
        self._module: nn.Module | None = None
        self._output: torch.Tensor | None = None
        self._entries = 0
        self._places: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._regressed: dict[tuple[Any, ...], Any] = {}
        for name in ("cross_entropy", "nll_loss"):
            self.recorder.patches.wrap(nn.functional, name, self._around)
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            self.recorder.patches.wrap(nn.functional, name, self._around_regression)

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember the token ids that the model is called with."""
        self._ids, self._masks, self._output, self._module = [], [], None, module
        self._decoded = []
        if not module.training or self._entries > 4 * _MOST_CALLS:
            return
        for name, value in _named(module, args, kwargs):
            if not isinstance(value, torch.Tensor) or value.dim() != 2 or value.numel() > _MOST_ELEMENTS:
                continue
            if "mask" in name:
                self._masks.append(value.detach())
            elif _is_read(name, value):
                self._ids.append(value.detach())
            elif _is_decoded(name, value):
                self._decoded.append(value.detach())
        self._entries += bool(self._ids)

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Remember the scores, to see which of them the loss reads."""
        self._output = _scores(result) if self._ids else None

    def _around(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        if self._ids and not torch.compiler.is_compiling():
            names = ("input", "target", "weight", "size_average", "ignore_index")
            self.guarded(self._note)(dict(zip(names, args, strict=False)) | kwargs)
        return original(*args, **kwargs)

    def _around_regression(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        if self._ids and not torch.compiler.is_compiling():
            known = dict(zip(("input", "target"), args, strict=False)) | kwargs
            self.guarded(self._note_regression)(known.get("input"), known.get("target"))
        return original(*args, **kwargs)

    def _note_regression(self, prediction: Any, target: Any) -> None:
        """Numbers to be met that are the next token ids of the input."""
        if not isinstance(prediction, torch.Tensor) or not isinstance(target, torch.Tensor):
            return
        line = self.recorder.frames.line()
        known = len(self._regressed) >= _MOST_CALLS or tuple(line or ()) in self._regressed
        if known or not prediction.requires_grad or not target.is_floating_point() or target.numel() < 8:
            return
        wanted = target.detach().round()
        if torch.equal(wanted, target.detach()) and any(is_next(ids, wanted.long()) for ids in self._ids):
            self._regressed[tuple(line or ())] = line

    def _note(self, known: dict[str, Any]) -> None:
        prediction, target = known.get("input"), known.get("target")
        if not isinstance(prediction, torch.Tensor) or not isinstance(target, torch.Tensor):
            return
        if not prediction.requires_grad or target.is_floating_point() or prediction.dim() < 2 or target.numel() < 8:
            return
        line = self.recorder.frames.line()
        record = self._places.get(tuple(line or ()))
        if record is not None and record["calls"] >= _MOST_CALLS:
            return
        # A model that is given targets and leaves the loss to its caller reads them: a decoder under teacher forcing.
        outside = all(isinstance(module, nn.modules.loss._Loss) for module in self.recorder.stack)
        read = [*self._ids, *self._decoded] if outside else self._ids
        fitting = [found for ids in read for found in _alignments(ids, target.detach())]
        if not fitting:
            return
        ignored = int(known.get("ignore_index", -100))
        measured = [(_matches(ids, aligned, ignored), ids, aligned, first) for ids, aligned, first in fitting]
        best = max(measured, key=lambda found: max(found[0][0]) / max(1, found[0][1]))
        (matches, positions), ids, aligned, first = best
        if record is None:
            root, path = self.recorder.naming.place(self._module) if self._module is not None else (-1, "")
            record = self._places[tuple(line or ())] = {
                "line": line, "calls": 0, "root": root if not path else -1, "inside": bool(self.recorder.stack),
                "matches": [0] * len(_LAGS), "positions": 0, "distinct": 0, "time_first": bool(first), "causal": None,
                "ignore_index": ignored, "tail": None,
            }  # fmt: skip
        record["calls"] += 1
        offset = self._offset(prediction)
        shifted = [matches[_LAGS.index(lag + offset)] if lag + offset in _LAGS else 0 for lag in _LAGS]
        record["matches"] = [old + new for old, new in zip(record["matches"], shifted, strict=True)]
        record["positions"] += positions
        record["distinct"] = max(record["distinct"], int(torch.unique(aligned).numel()))
        if max(matches) < 0.5 * positions:
            # Tags are no tokens: which way the flat targets lie, only their padding tells.
            ids, aligned, first = max(fitting, key=lambda found: _constancy(found[0], found[1]))
        self._note_padding(record, prediction, known.get("weight"), ids, aligned, ignored, first)

    def _offset(self, prediction: torch.Tensor) -> int:
        """1 where the loss leaves out the first position's scores, else 0."""
        scores = self._output
        if scores is None or scores.dim() != 3 or scores.shape[1] < 2:
            return 0
        row = prediction.detach()[0]
        row = row if row.dim() == 1 else row.reshape(row.shape[0], -1)[:, 0]
        if scores.shape[2] != row.shape[0] or torch.equal(scores[0, 0], row):
            return 0
        return int(torch.equal(scores[0, 1], row))

    # -- padding ------------------------------------------------------------------------------------------------

    def _note_padding(self, record: dict[str, Any], prediction: torch.Tensor, weight: Any, ids: torch.Tensor,
                      aligned: torch.Tensor, ignored: int, first: bool) -> None:  # fmt: skip
        tail = _tail(ids)
        if tail is None:
            return
        pad, padded = tail
        padded = padded[:, : aligned.shape[1]]
        tail_of_all = padded
        padded = padded & (aligned != ignored)
        values = aligned[padded]
        if values.numel() < 4:
            return
        classes, counts = torch.unique(values, return_counts=True)
        common = int(classes[counts.argmax()])
        facts = record["tail"] = record["tail"] or {
            "pad": pad, "target": common, "padded": 0, "constant": 0, "counted": 0, "positions": 0, "with_gradient": 0,
            "gradient": 0.0, "whole_gradient": 0.0, "backwards": 0, "declared": self._declared(pad, ids, tail_of_all),
            "ended": _is_ended(ids, tail[1]),
        }  # fmt: skip
        facts["padded"] += values.numel()
        facts["positions"] += aligned.numel()
        facts["constant"] += int(counts.max())
        counted = padded & (aligned >= 0)
        if isinstance(weight, torch.Tensor) and 0 <= common < len(weight) and float(weight[common]) == 0:
            counted = torch.zeros_like(counted)
        facts["counted"] += int(counted.sum())
        place = (padded.t() if first else padded).reshape(-1)

        def note(gradient: torch.Tensor) -> None:
            self.guarded(self._note_gradient)(facts, gradient, place)

        with torch.enable_grad():
            prediction.register_hook(note)

    def _note_gradient(self, facts: dict[str, Any], gradient: torch.Tensor, place: torch.Tensor) -> None:
        size = gradient.detach().abs().movedim(1, -1)
        size = size.reshape(-1, size.shape[-1]).sum(1)
        if size.numel() != place.numel():
            return
        facts["backwards"] += 1
        facts["with_gradient"] += int((size[place] > 0).sum())
        facts["gradient"] += float(size[place].sum())
        facts["whole_gradient"] += float(size.sum())

    def _declared(self, pad: int, ids: torch.Tensor, padded: torch.Tensor) -> bool:
        """Whether the program itself says that this token is padding."""
        if self._module is not None:
            for part in self._module.modules():
                if isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.padding_idx == pad:
                    return True
        for mask in self._masks:
            if mask.shape == ids.shape and padded.shape == ids.shape:
                zero = mask == 0
                if torch.equal(zero, padded) or torch.equal(~zero, padded):
                    return True
        return False

    # -- report -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Where targets are not shifted: is the model causal, so that it sees what it is asked for."""
        for line in self._regressed.values():
            self.recorder.stream.emit("token-regression", line=line)
        for record in self._places.values():
            copied = record["matches"][_LAGS.index(0)] + record["matches"][_LAGS.index(-1)]
            if record["positions"] and copied > 0.9 * record["positions"] and record["root"] >= 0:
                record["causal"] = self._causal(record["root"], record["time_first"])
            self.recorder.stream.emit("token-alignment", lags=list(_LAGS), **record)

    def _causal(self, root: int, time_first: bool) -> bool | None:
        capture = self.recorder.captures.latest.get(root)
        if capture is None:
            return None
        named = _named(capture.module, capture.args, capture.kwargs)
        module = copy.deepcopy(capture.module).eval()
        one = _scores(module(*capture.args, **capture.kwargs))
        whole = [v for n, v in named if isinstance(v, torch.Tensor) and v.dim() == 2 and not v.is_floating_point()
                 and v.dtype != torch.bool and "mask" not in n]  # fmt: skip
        # Of several, the tokens that there is a score for at each position: a decoder's own, not its encoder's.
        ids = next((v for v in whole if one is not None and v.shape == one.shape[:2]), None)
        if one is None or ids is None:
            return None
        axis = 0 if time_first else 1
        half = ids.shape[axis] // 2
        other = ids.clone()
        late = other.narrow(axis, half, ids.shape[axis] - half)
        late.copy_(late.roll(1, axis).flip(1 - axis))
        if torch.equal(other, ids):
            return None
        swapped = tuple(other if value is ids else value for value in capture.args)
        two = _scores(module(*swapped, **{k: other if v is ids else v for k, v in capture.kwargs.items()}))
        if two is None or one.shape != two.shape or one.dim() != 3:
            return None
        if one.shape[axis] != ids.shape[axis]:
            return None
        difference = (one - two).abs().amax(-1)
        early, late_change = difference.narrow(axis, 0, half).max(), difference.narrow(axis, half, 1).max()
        return bool(early <= 1e-4 * max(1e-6, float(one.abs().max()))) and bool(late_change >= 0)


def _is_read(name: str, value: torch.Tensor) -> bool:
    """Whether an argument holds token ids that the model reads."""
    if value.is_floating_point() or value.dtype == torch.bool or min(value.shape) < 2:
        return False
    return not any(word in name for word in _NO_INPUTS) and name not in _SHORT_NO_INPUTS


def _is_decoded(name: str, value: torch.Tensor) -> bool:
    """Whether an argument may hold what a decoder reads under teacher forcing."""
    whole = not value.is_floating_point() and value.dtype != torch.bool and min(value.shape) >= 2
    return whole and any(word in name for word in _DECODED)


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    try:
        names = list(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):
        names = []
    names += [f"input{number}" for number in range(len(names), len(args))]
    return [(name.lower(), value) for name, value in [*zip(names, args, strict=False), *kwargs.items()]]


def _scores(result: Any) -> torch.Tensor | None:
    """The first real-valued tensor of three axes in a model's result."""
    if isinstance(result, torch.Tensor):
        return result.detach() if result.dim() == 3 and result.is_floating_point() else None
    if isinstance(getattr(result, "logits", None), torch.Tensor):
        return _scores(result.logits)
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    return next((found for found in map(_scores, values) if found is not None), None)


def _alignments(ids: torch.Tensor, target: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, bool]]:
    """(ids, targets) as (batch, time), for batch-first and time-first programs; the last says whether it is the latter."""
    found = []
    for first in (False, True):
        rows = ids.t() if first else ids
        batch, time = rows.shape
        length = target.numel() // batch
        if length * batch != target.numel() or not max(2, time - 2) <= length <= time:
            continue
        if target.dim() == 2 and tuple(target.shape) not in ((length, batch) if first else (batch, length),):
            continue
        aligned = target.reshape(length, batch).t() if first else target.reshape(batch, length)
        found.append((rows, aligned, first))
    # Flat targets fit both ways; read across the batch, padding meets padding and would pass for a match.
    padded = [way for way in found if _tail(way[0]) is not None]
    return padded or found


def is_next(ids: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether (nearly) all targets, at least 32 of five kinds, are the input's token ids one position later."""
    for rows, aligned, _ in _alignments(ids, target):
        matches, positions = _matches(rows, aligned, -100)
        same = matches[_LAGS.index(1)] >= 0.98 * positions
        if positions >= 32 and same and torch.unique(aligned).numel() >= 5:
            return True
    return False


def _matches(ids: torch.Tensor, target: torch.Tensor, ignored: int) -> tuple[list[int], int]:
    """How many targets equal the input token at each lag, over the positions that all lags have."""
    time, length = ids.shape[1], target.shape[1]
    start, stop = 1, min(length, time - max(_LAGS))
    if stop - start < 2:
        return [0] * len(_LAGS), 0
    part = target[:, start:stop]
    counted = (part != ignored) & (part >= 0)
    tail = _tail(ids)
    if tail is not None:
        counted &= ~tail[1][:, start:stop] & (part != tail[0])
    found = [int(((ids[:, start + lag : stop + lag] == part) & counted).sum()) for lag in _LAGS]
    return found, int(counted.sum())


def _constancy(ids: torch.Tensor, target: torch.Tensor) -> float:
    """Share of the commonest target at the places of padding; -1 where there are none."""
    tail = _tail(ids)
    values = target[tail[1][:, : target.shape[1]]] if tail is not None else target[:0, 0]
    return float(torch.unique(values, return_counts=True)[1].max() / values.numel()) if values.numel() else -1.0


def _is_ended(ids: torch.Tensor, padded: torch.Tensor) -> bool:
    """Whether one sign ends nearly all the padded rows; where none does, it is the padding that ends them."""
    lengths = (~padded).sum(1)
    rows = ((lengths > 0) & (lengths < ids.shape[1])).nonzero()[:, 0]
    if not len(rows):
        return True
    counts = torch.unique(ids[rows, lengths[rows] - 1], return_counts=True)[1]
    return int(counts.max()) >= 0.9 * len(rows)


def _tail(ids: torch.Tensor) -> tuple[int, torch.Tensor] | None:
    """The padding token and where it pads: the same id at the end of rows, in runs of different lengths, and (almost)
    nowhere else.
    """
    ends, counts = torch.unique(ids[:, -1], return_counts=True)
    pad = int(ends[counts.argmax()])
    same = ids == pad
    tail = same.flip(1).long().cumprod(1).flip(1).bool()
    lengths = tail.sum(1)
    if torch.unique(lengths).numel() < 2 or int(lengths.max()) < 2 or int(lengths.sum()) < 0.04 * ids.numel():
        return None
    if 2 * int((lengths == ids.shape[1]).sum()) >= int((lengths > 0).sum()):
        return None  # read across the batch, a sign that stands at one place in every sample fills whole rows
    return (pad, tail) if int(tail.sum()) >= 0.95 * int(same.sum()) else None
