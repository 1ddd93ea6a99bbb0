"""Windows of several backwards before one step: on which losses they run, and whether these were divided."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_LOSSES = (
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div", "ctc_loss", "gaussian_nll_loss", "poisson_nll_loss",
)  # fmt: skip
_MOST_VALUES = 120
_MOST_WINDOWS = 60


class AccumulationWatch(Watch):
    """What happens between two steps of the program's only optimizer."""

    def install(self) -> None:
        """Listen to losses."""
        self._criterion: list[torch.Tensor] = []
        self._ratios: list[float | None] = []
        self._heads: list[str] = []
        self._lines: list[Any] = []
        self._windows: list[dict[str, int]] = []
        self._drawn = self._backwards = 0
        self._places: set[tuple[Any, ...]] = set()
        self._reductions: set[str] = set()
        for name in _LOSSES:
            self.recorder.patches.wrap(nn.functional, name, self._loss)

    def _loss(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if isinstance(result, torch.Tensor) and result.requires_grad and len(self._criterion) < 16:
            self._criterion.append(result.detach())
            self._reductions.add(str(kwargs.get("reduction", "mean")))
        return result

    def before_backward(self, losses: list[torch.Tensor]) -> None:
        """Hold the loss against what the criterion gave."""
        criterion, self._criterion = self._criterion, []
        line = self.recorder.frames.line()
        self._backwards += 1
        self._places.add(tuple(line or ()))
        if len(self._ratios) >= _MOST_VALUES or not losses:
            return
        node = losses[0].grad_fn
        self._heads.append(str(node.name()) if node is not None else "")
        if line not in self._lines:
            self._lines.append(line)
        self._ratios.append(_ratio(losses[0], criterion))

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The window ends."""
        drawn = sum(record["batches"] for record in self.recorder.loaders.records)
        if len(self._windows) < _MOST_WINDOWS:
            self._windows.append(
                {"backwards": self._backwards, "batches": drawn - self._drawn, "places": len(self._places)}
            )
        self._drawn, self._backwards, self._places = drawn, 0, set()

    def finish(self) -> None:
        """One event where there is more than one backward a step."""
        alive = [watched for watched in self.recorder.stepping.all if watched.steps]
        if len(alive) != 1 or not any(window["backwards"] > 1 for window in self._windows):
            return
        self.recorder.stream.emit(
            "accumulation",
            optimizer=alive[0].index,
            lines=self._lines,
            windows=self._windows,
            ratios=self._ratios,
            heads=self._heads,
            reductions=sorted(self._reductions),
        )


def _ratio(loss: torch.Tensor, criterion: list[torch.Tensor]) -> float | None:
    """The loss over the criterion's only value; None where there is no such one."""
    if len(criterion) != 1 or criterion[0].numel() != 1 or loss.numel() != 1:
        return None
    value = float(criterion[0])
    return float(loss.detach()) / value if value else None
