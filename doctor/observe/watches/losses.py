"""Arguments of loss functions: how predictions, targets, weights and lengths are given to them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from doctor.observe import labels
from doctor.observe.frames import Line
from doctor.observe.watch import Watch

_LOSSES = ("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
           "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "gaussian_nll_loss")  # fmt: skip
_CLASSES = ("cross_entropy", "nll_loss")
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
_POSITIONAL = {
    "cross_entropy": ("weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing"),
    "nll_loss": ("weight", "size_average", "ignore_index", "reduce", "reduction"),
    "kl_div": ("size_average", "reduce", "reduction", "log_target"),
    "binary_cross_entropy": ("weight", "size_average", "reduce", "reduction"),
    "binary_cross_entropy_with_logits": ("weight", "size_average", "reduce", "reduction", "pos_weight"),
    "mse_loss": ("size_average", "reduce", "reduction"),
    "l1_loss": ("size_average", "reduce", "reduction"),
}
_ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_SIGNED = {  # losses whose targets are -1 and 1, by the place of the target
    "soft_margin_loss": 1, "hinge_embedding_loss": 1, "cosine_embedding_loss": 2, "margin_ranking_loss": 2,
}  # fmt: skip
_MOST_CALLS = 6  # calls of one place whose tensors are measured
_MOST_COUNTED = 200  # calls of one place whose labels are counted
_MOST_ELEMENTS = 400_000
_MOST_CLASSES = 4096
_NORMALISED = 0.02  # |log of the sum of probabilities| of a row that is a distribution


class LossArgumentWatch(Watch):
    """What the losses of `torch.nn.functional` are called with, by user's line."""

    def install(self) -> None:
        """In front of the losses."""
        self._places: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._counts: dict[tuple[Any, ...], torch.Tensor] = {}
        self._valid: list[float] = []
        self._input: torch.Tensor | None = None
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._pair_line: Any = None
        self._entries = 0
        for name in _LOSSES:
            self.recorder.patches.wrap(nn.functional, name, self._around(name))
        for name, place in _SIGNED.items():
            self.recorder.patches.wrap(nn.functional, name, self._around_signed(name, place))
        self.recorder.patches.wrap(nn.functional, "ctc_loss", self._around_ctc)

    def before_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """How much of each sample is no padding, where a recording or another long real-valued input comes in."""
        values = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        self._input = values[0] if values and module.training else None
        if not module.training or self._entries > 4 * _MOST_CALLS:
            return
        self._entries += 1
        long = [value for value in values if value.is_floating_point() and value.dim() > 1 and not value.requires_grad]
        self._valid = _valid_shares(long[0].detach()) if long else []

    def _around(self, name: str) -> Any:
        def around(original: Any, *args: Any, **kwargs: Any) -> Any:
            known: dict[str, Any] = dict(zip(("input", "target", *_POSITIONAL.get(name, ())), args, strict=False))
            known |= kwargs
            self.guarded(self._note)(name, known)
            return original(*args, **kwargs)

        return around

    def _around_signed(self, name: str, place: int) -> Any:
        def around(original: Any, *args: Any, **kwargs: Any) -> Any:
            first = args[0] if args else next(iter(kwargs.values()), None)
            target = args[place] if len(args) > place else kwargs.get("target")
            self.guarded(self._note)(name, {"input": first, "target": target})
            return original(*args, **kwargs)

        return around

    def _around_ctc(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        names = ("log_probs", "targets", "input_lengths", "target_lengths", "blank", "reduction", "zero_infinity")
        self.guarded(self._note_ctc)(dict(zip(names, args, strict=False)) | kwargs)
        return original(*args, **kwargs)

    def _place(self, name: str, prediction: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        line = self.recorder.frames.line()
        training = bool(prediction.requires_grad)
        key = (name, tuple(line or ()), training)
        record = self._places.get(key)
        if record is None:
            record = self._places[key] = {
                "function": name, "line": line, "made": self._made(), "training": training, "calls": 0, "step": self.recorder.step,
                "input_shape": list(prediction.shape), "target_shape": list(target.shape),
                "target_dtype": str(target.dtype)[6:], "inside": bool(self.recorder.stack), "measured": 0, "rows": 0,
                "elements": 0, "positive": 0,
                "normalised_rows": 0, "probability_rows": 0, "log_sum": 0.0, "outputs": [], "minimum": None,
                "maximum": None, "target_minimum": None, "target_maximum": None, "whole_targets": True,
                "one_hot_rows": 0, "multi_hot_rows": 0, "target_rows": 0, "target_negative": False,
                "target_probability_rows": 0, "weight": None, "pos_weight": None, "options": {},
            }  # fmt: skip
        record["calls"] += 1
        return record

    def _made(self) -> Line | None:
        """The line on which the criterion that is running was constructed."""
        module = self.recorder.stack[-1] if self.recorder.stack else None
        criterion = isinstance(module, nn.modules.loss._Loss)
        return self.recorder.naming.created_line(module) if criterion and module is not None else None

    # -- plain losses -------------------------------------------------------------------------------------------

    def _note(self, name: str, known: dict[str, Any]) -> None:
        prediction, target = known.get("input"), known.get("target")
        if not isinstance(prediction, torch.Tensor) or not isinstance(target, torch.Tensor):
            return
        record = self._place(name, prediction, target)
        if name in _CLASSES or name in _BINARY:
            self._count(record, name, prediction, target)
        if name in _ELEMENTWISE and record["training"] and record["whole_targets"]:
            self._keep(record, prediction, target)
        if record["measured"] >= _MOST_CALLS or not prediction.is_floating_point() or not prediction.numel():
            return
        record["measured"] += 1
        for option in ("reduction", "ignore_index", "label_smoothing", "log_target", "log_input", "from_logits"):
            if isinstance(known.get(option), str | int | float | bool):
                record["options"][option] = known[option]
        for option in ("weight", "pos_weight"):
            if isinstance(known.get(option), torch.Tensor) and known[option].numel() <= _MOST_CLASSES:
                record[option] = [float(value) for value in known[option].detach().reshape(-1).tolist()]
        shape = list(prediction.shape)
        outputs = shape[1] if len(shape) > 1 else 1
        if outputs not in record["outputs"]:
            record["outputs"].append(outputs)
        self._measure_input(record, prediction.detach())
        self._measure_target(record, target.detach())

    def _keep(self, record: dict[str, Any], prediction: torch.Tensor, target: torch.Tensor) -> None:
        """Keep samples of a regression on whole numbers, which may be the names of classes."""
        x, self._input = self._input, None
        if x is None or x.dim() < 2 or len(x) != target.numel() or x.requires_grad or x.is_complex():
            return
        if prediction.numel() not in (len(x), len(x) ** 2) or sum(len(kept) for kept, _ in self._pairs) >= 600:
            return
        y = target.detach().reshape(-1).float()
        if self._pair_line not in (None, record["line"]) or bool((y != y.round()).any()):
            return
        flat = labels.features(x.detach())
        if flat is not None and (not self._pairs or self._pairs[0][0].shape[1] == flat.shape[1]):
            self._pair_line = record["line"]
            self._pairs.append((flat.cpu(), y.cpu()))

    def _measure_input(self, record: dict[str, Any], prediction: torch.Tensor) -> None:
        x = prediction if prediction.numel() <= _MOST_ELEMENTS else prediction[:8]
        x = x.float()
        low, high = (float(value) for value in torch.aminmax(x))
        record["minimum"] = low if record["minimum"] is None else min(low, record["minimum"])
        record["maximum"] = high if record["maximum"] is None else max(high, record["maximum"])
        if x.dim() < 2:
            return
        axis = 1 if record["function"] in _CLASSES else x.dim() - 1
        sums = x.logsumexp(axis).reshape(-1)
        record["rows"] += sums.numel()
        record["normalised_rows"] += int((sums.abs() < _NORMALISED).sum())
        record["log_sum"] += float(sums.abs().clamp(max=1e6).nan_to_num(0.0).sum())
        if low >= 0:
            record["probability_rows"] += int(((x.sum(axis) - 1).abs() < 1e-3).sum())
        record["elements"] += x.numel()
        record["positive"] += int((x > 1e-4).sum())

    def _measure_target(self, record: dict[str, Any], target: torch.Tensor) -> None:
        if not target.numel() or target.is_complex():
            return
        y = (target if target.numel() <= _MOST_ELEMENTS else target[:8]).float()
        low, high = (float(value) for value in torch.aminmax(y))
        record["target_minimum"] = low if record["target_minimum"] is None else min(low, record["target_minimum"])
        record["target_maximum"] = high if record["target_maximum"] is None else max(high, record["target_maximum"])
        whole = bool((y == y.round()).all())
        record["whole_targets"] &= whole
        if y.dim() < 2 or y.shape[1] < 2 or not target.is_floating_point():
            return
        axis = 1 if record["function"] in _CLASSES else y.dim() - 1
        sums = y.sum(axis).reshape(-1)
        record["target_rows"] += sums.numel()
        record["target_probability_rows"] += int(((sums - 1).abs() < 1e-3).sum()) if low >= 0 else 0
        if whole and low >= 0 and high <= 1:
            record["one_hot_rows"] += int((sums == 1).sum())
            record["multi_hot_rows"] += int((sums > 1).sum())

    def _count(self, record: dict[str, Any], name: str, prediction: torch.Tensor, target: torch.Tensor) -> None:
        if record["calls"] > _MOST_COUNTED or not target.numel() or target.numel() > _MOST_ELEMENTS:
            return
        key = (id(record),)
        y = target.detach()
        if name in _BINARY:
            rows = y.reshape(-1, y.shape[-1]) if y.dim() > 1 else y.reshape(-1, 1)
            if rows.shape[1] > _MOST_CLASSES or bool((y.float() != y.float().round()).any()):
                return
            found = torch.stack([(rows > 0.5).sum(0), (rows <= 0.5).sum(0)]).double().cpu()
        elif not y.is_floating_point() and prediction.dim() > 1 and prediction.shape[1] <= _MOST_CLASSES:
            ids = y.reshape(-1)
            ids = ids[(ids >= 0) & (ids < prediction.shape[1])]
            found = torch.bincount(ids.cpu(), minlength=prediction.shape[1]).double()
        else:
            return
        old = self._counts.get(key)
        if old is None or old.shape == found.shape:
            self._counts[key] = found if old is None else old + found

    # -- ctc ----------------------------------------------------------------------------------------------------

    def _note_ctc(self, known: dict[str, Any]) -> None:
        log_probs, targets = known.get("log_probs"), known.get("targets")
        if not isinstance(log_probs, torch.Tensor) or not isinstance(targets, torch.Tensor):
            return
        record = self._place("ctc_loss", log_probs, targets)
        x = log_probs.detach().float()
        x = x if x.dim() == 3 else x.unsqueeze(1)
        blank = int(known.get("blank", 0))
        frames, batch, classes = x.shape
        inputs, labels = _lengths(known.get("input_lengths")), _lengths(known.get("target_lengths"))
        ctc = record.setdefault(
            "ctc",
            {
                "blank": blank, "classes": classes, "samples": 0, "blank_labels": 0, "labels": 0, "infeasible": 0,
                "longest_share": 0.0, "too_long": 0, "batches": 0, "uneven_batches": 0, "full_batches": 0,
                "tail_samples": 0, "empty": 0, "label_maximum": 0, "frames": frames, "wrong_count": False, "zero_infinity": False,
                "ratios": [],
            },
        )  # fmt: skip
        ctc["zero_infinity"] |= bool(known.get("zero_infinity", False))
        if record["measured"] >= 4 * _MOST_CALLS:
            return
        record["measured"] += 1
        if record["measured"] <= _MOST_CALLS and x.numel() <= 4 * _MOST_ELEMENTS:
            self._measure_input(record, x)
        if len(inputs) != batch or len(labels) != batch:
            ctc["wrong_count"] = True
            return
        ctc["batches"] += 1
        ctc["samples"] += batch
        ctc["too_long"] += sum(length > frames for length in inputs)
        ctc["longest_share"] = max(ctc["longest_share"], *(length / frames for length in inputs))
        ctc["uneven_batches"] += len(set(labels)) > 1
        ctc["full_batches"] += batch > 1 and all(length == frames for length in inputs)
        rows = _rows(targets.detach().cpu(), labels)
        for row, frames_given in zip(rows, inputs, strict=False):
            ctc["labels"] += len(row)
            ctc["empty"] += not row
            ctc["blank_labels"] += sum(label == blank for label in row)
            ctc["label_maximum"] = max([ctc["label_maximum"], *row])
            repeats = sum(one == two for one, two in itertools.pairwise(row))
            ctc["infeasible"] += len(row) + repeats > min(frames_given, frames)
            ctc["tail_samples"] += len(row) > 3 and row[-1] == row[-2] == row[-3]
        padded_or_full = len(set(self._valid)) > 1 or min(self._valid, default=0.0) > 0.999
        if len(self._valid) == batch and padded_or_full:
            shares = zip(inputs, self._valid, strict=True)
            ctc["ratios"] += [given / frames / share for given, share in shares if share > 0][:64]

    # -- report -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """One event a place."""
        for record in self._places.values():
            record["nominal"] = None
            if self._pairs and record["line"] == self._pair_line and record["training"]:
                record["nominal"] = labels.nominal(*(torch.cat(part) for part in zip(*self._pairs, strict=True)))
            counts = self._counts.get((id(record),))
            record["counts"] = counts.tolist() if counts is not None else None
            self.recorder.stream.emit("loss-arguments", **record)


def _valid_shares(x: torch.Tensor) -> list[float]:
    """Share of the longest axis behind which every sample is constant (its padding); empty where none is padded."""
    if x.numel() > 4 * _MOST_ELEMENTS or not x.numel():
        return []
    axis = max(range(1, x.dim()), key=lambda number: x.shape[number])
    frames = x.movedim(axis, 1).reshape(x.shape[0], x.shape[axis], -1)
    differs = (frames != frames[:, -1:]).any(2)
    last = differs.shape[1] - differs.flip(1).to(torch.int8).argmax(1)
    shares = torch.where(differs.any(1), last, torch.zeros_like(last)).double() / differs.shape[1]
    constant = frames[:, -1].abs().amax(1) == frames[:, -1].abs().amin(1)
    return [float(share) if flat else 1.0 for share, flat in zip(shares, constant, strict=True)]


def _lengths(value: Any) -> list[int]:
    if isinstance(value, torch.Tensor):
        return [int(length) for length in value.detach().reshape(-1).tolist()]
    return [int(length) for length in value] if isinstance(value, list | tuple) else []


def _rows(targets: torch.Tensor, lengths: list[int]) -> list[list[int]]:
    if targets.dim() == 2:
        return [row[: max(0, length)].tolist() for row, length in zip(targets, lengths, strict=False)]
    if sum(lengths) > targets.numel():
        return []
    return [part.tolist() for part in targets[: sum(lengths)].split(lengths)]
