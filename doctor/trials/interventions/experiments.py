"""Experiments: what is measured on the running program without changing its training."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import torch
from torch import nn

from doctor.trials.interventions.base import Intervention

_STATISTIC = "root mean square difference of the outputs in training mode and in eval mode, in deviations"
_LEAST_DIFFERENCE = 0.01  # relative, of outputs in training and in eval mode


class EvaluateInEvalMode(Intervention):
    """Experiment: repeats evaluation forwards in eval mode and measures how far the outputs differ."""

    treats = "evaluate-in-eval-mode"

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
        sizes = self._differences
        note: dict[str, Any] = {"kind": self.treats, "statistic": _STATISTIC, "steps": self.recorder.step}
        if not sizes:
            return [{**note, "outcome": "inconclusive", "note": "no evaluation forward was seen"}]
        size = fmean(sizes)
        changed = f"; {fmean(self._decisions):.0%} of the predicted classes change" if self._decisions else ""
        return [
            {
                **note,
                "outcome": "confirmed" if size > _LEAST_DIFFERENCE else "refuted",
                "control": size,
                "treated": 0.0,
                "size": size,
                "seeds": len(sizes),
                "agreeing": sum(value > _LEAST_DIFFERENCE for value in sizes),
                "note": f"outputs differ by {size:.3g} of their deviation over {len(sizes)} forwards{changed}",
            }
        ]


def _first_tensor(result: Any) -> torch.Tensor | None:
    if isinstance(result, torch.Tensor):
        return result
    if hasattr(result, "logits"):
        return _first_tensor(result.logits)
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    return next((value for value in values if isinstance(value, torch.Tensor)), None)
