"""Targets as the losses see them, and what the model makes of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_CLASSES = ("cross_entropy", "nll_loss")
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
_NUMBERS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_MOST_CLASSES = 1000
_MOST_BATCHES = 2000


class TargetWatch(Watch):
    """Counts of classes and of predictions; scale of real targets and of the predictions for them."""

    def install(self) -> None:
        """Listen to losses."""
        self._records: dict[Any, dict[str, Any]] = {}
        for name in (*_CLASSES, *_BINARY, *_NUMBERS):
            self.recorder.patches.wrap(nn.functional, name, self._around(name))

    def _around(self, name: str) -> Any:
        def around(original: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(input, torch.Tensor) and isinstance(target, torch.Tensor) and not self.recorder.busy:
                weighted = kwargs.get("weight", args[0] if args else None) is not None
                weighted = weighted or kwargs.get("pos_weight") is not None
                self.guarded(self._note)(name, input, target, weighted, kwargs)
            return original(input, target, *args, **kwargs)

        return around

    def _note(self, name: str, input: torch.Tensor, target: torch.Tensor, weighted: bool, kwargs: Any) -> None:
        training = input.requires_grad
        line = self.recorder.frames.line()
        key = (name, tuple(line or ()), training)
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = {
                "function": name, "line": line, "criterion": self._criterion(), "training": training, "outputs": _outputs(name, input),
                "input_dims": input.dim(), "target_dims": target.dim(), "target_dtype": str(target.dtype)[6:],
                "ignore_index": int(kwargs.get("ignore_index", -100)), "weighted": weighted, "batches": 0,
                "reduction": str(kwargs.get("reduction", "mean")), "minimum": None, "maximum": None, "non_finite": 0,
                "classes": None, "decided": [], "total": 0.0,
                "square": 0.0, "count": 0, "first_output": None, "errors": [], "step": 0,
                "root": self.recorder.naming.place(self.recorder.stack[0])[0] if self.recorder.stack else None,
                "batch_means": [], "batch_variances": [], "elements": 0, "outside": 0,
            }  # fmt: skip
        record["batches"] += 1
        record["step"] = self.recorder.step
        if record["batches"] > _MOST_BATCHES or not target.numel() or target.is_complex():
            return
        values = target.double()
        finite = torch.isfinite(values)
        record["elements"] += target.numel()
        if not finite.all():
            record["non_finite"] += int((~finite).sum())
            values = values[finite]
            if not values.numel():
                return
        low, high = float(values.min()), float(values.max())
        record["minimum"] = low if record["minimum"] is None else min(low, record["minimum"])
        record["maximum"] = high if record["maximum"] is None else max(high, record["maximum"])
        if name in _NUMBERS:
            self._note_numbers(record, input, target)
        elif name in _BINARY:
            record["outside"] += int(((values < 0) | (values > 1)).sum())
            if bool((values == values.round()).all()):
                decision = input > (0 if "logits" in name else 0.5)
                self._note_classes(record, decision.reshape(-1).long(), target.reshape(-1).round().long(), 2)
        elif not target.is_floating_point() and input.dim() >= 2:
            outputs = input.shape[1]
            if outputs <= _MOST_CLASSES and target.numel() == input.numel() // outputs:
                self._note_classes(record, input.argmax(1).reshape(-1), target.reshape(-1), outputs)

    def _criterion(self) -> Any:
        stack = self.recorder.stack
        loss = stack[-1] if stack and isinstance(stack[-1], nn.modules.loss._Loss) else None
        return self.recorder.naming.created_line(loss) if loss is not None else None

    def _note_classes(self, record: dict[str, Any], guess: torch.Tensor, truth: torch.Tensor, count: int) -> None:
        kept = (truth != record["ignore_index"]) & (truth >= 0) & (truth < count)
        guess, truth = guess[kept].cpu(), truth[kept].cpu()
        if record["classes"] is None:
            record["classes"] = torch.zeros(count, dtype=torch.int64)
        if len(record["classes"]) != count:
            return
        truths = torch.bincount(truth, minlength=count)
        record["classes"] += truths
        if count <= 200:
            guesses, hits = (torch.bincount(values, minlength=count) for values in (guess, truth[guess == truth]))
            record["decided"].append((guesses, hits, truths))

    def _note_numbers(self, record: dict[str, Any], input: torch.Tensor, target: torch.Tensor) -> None:
        values = target.double()
        record["total"] += float(values.sum())
        record["square"] += float(values.square().sum())
        record["count"] += values.numel()
        if len(record["batch_means"]) < 400 and len(values) > 1 and values.numel() == len(values):
            record["batch_means"].append(float(values.mean()))
            record["batch_variances"].append(float(values.var()))
        outputs = input.double()
        if record["first_output"] is None:
            record["first_output"] = [float(outputs.mean()), float(outputs.std(correction=0))]
        if input.shape == target.shape:
            record["errors"].append((float((outputs - values).square().sum()), values.numel()))

    def finish(self) -> None:
        """One event a place."""
        for record in self._records.values():
            decided, errors = record.pop("decided"), record.pop("errors")
            late = decided[len(decided) // 2 :]
            for place, name in enumerate(("predicted", "hits", "of_late")):
                record[name] = torch.stack([part[place] for part in late]).sum(0).tolist() if late else None
            record["classes"] = None if record["classes"] is None else record["classes"].tolist()
            last = errors[(2 * len(errors)) // 3 :]
            record["squared_error"], record["errors"] = sum(e for e, _ in last), sum(n for _, n in last)
            self.recorder.stream.emit("targets", **record)


def _outputs(name: str, input: torch.Tensor) -> int:
    if name in _CLASSES:
        return input.shape[1] if input.dim() > 1 else input.shape[0]
    return input.shape[-1] if input.dim() > 1 else 1
