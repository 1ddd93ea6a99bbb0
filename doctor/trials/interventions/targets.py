"""Interventions on targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.trials.interventions.base import Intervention

_CLEAR_GAIN = 0.1  # of the mean recall
_NO_GAIN = 0.03
_MOST_WEIGHT = 100.0


class _Rescaled(torch.autograd.Function):
    """`x * std + mean`, with a gradient scaled by `factor` in place of `std`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mean: float, std: float, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x * std + mean

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        return gradients[0] * ctx.factor, None, None, None


class StandardiseTargets(Intervention):
    """In front of the regression losses."""

    treats = "standardise-targets"

    def install(self) -> None:
        """Wrap them."""
        # The squared error of standardised targets is 1 / std**2 of that of the raw ones, the absolute one 1 / std.
        for name, power in (("mse_loss", 2), ("l1_loss", 1), ("smooth_l1_loss", 1), ("huber_loss", 1)):
            self.recorder.patches.wrap(nn.functional, name, self._around(power))

    def _around(self, power: int) -> Any:
        mean, std = self.plan["mean"], self.plan["std"]

        def around(original: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(input, torch.Tensor) and not self.recorder.busy and self._here():
                input = _Rescaled.apply(input, mean, std, std / std**power)
            return original(input, target, *args, **kwargs)

        return around

    def _here(self) -> bool:
        place = self.plan.get("place") or {}
        line = self.recorder.frames.line()
        return not place.get("path") or (line is not None and line[0] == place["path"] and line[1] == place["line"])


class WeightClasses(Intervention):
    """Weights in the losses that have none; counts right predictions by class in the later half."""

    treats = "weight-classes"

    def install(self) -> None:
        """Wrap the losses."""
        counts = torch.tensor(self.plan["counts"], dtype=torch.float64)
        self._weights = (counts.sum() / (len(counts) * counts.clamp_min(1))).clamp_max(_MOST_WEIGHT).float()
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        for name in ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy"):
            self.recorder.patches.wrap(nn.functional, name, self._around(name))

    def _around(self, name: str) -> Any:
        count = len(self._weights)

        def around(original: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            ours = isinstance(input, torch.Tensor) and input.requires_grad and not self.recorder.busy
            if not ours or (args and args[0] is not None) or kwargs.get("weight") is not None:
                return original(input, target, *args, **kwargs)
            if name.startswith("binary"):
                if count == 2 and target.shape == input.shape:
                    weight = self._weights.to(input)[target.detach().round().long().clamp(0, 1)]
                    self._note((input > (0 if "logits" in name else 0.5)).long(), target.round().long())
                    kwargs = {**kwargs, "weight": weight}
            elif input.dim() > 1 and input.shape[1] == count and not target.is_floating_point():
                self._note(input.argmax(1), target)
                kwargs = {**kwargs, "weight": self._weights.to(input)}
            return original(input, target, *args[1:], **kwargs) if args else original(input, target, **kwargs)

        return around

    def _note(self, guess: torch.Tensor, truth: torch.Tensor) -> None:
        count = len(self._weights)
        guess, truth = guess.detach().reshape(-1).cpu(), truth.detach().reshape(-1).cpu()
        kept = (truth >= 0) & (truth < count)
        guess, truth = guess[kept], truth[kept]
        hits = torch.bincount(truth[guess == truth], minlength=count)
        self._seen.append((hits, torch.bincount(truth, minlength=count)))

    def notes(self) -> list[dict[str, Any]]:
        """Mean recall with the weights."""
        note: dict[str, Any] = {"kind": self.treats, "statistic": "mean recall over the classes, later half of the run"}
        late = self._seen[len(self._seen) // 2 :]
        if not late:
            return [{**note, "outcome": "inconclusive", "note": "no loss of class ids was weighted"}]
        hits, of = (torch.stack([pair[i] for pair in late]).sum(0).double() for i in (0, 1))
        treated = float((hits[of > 0] / of[of > 0]).mean())
        gain = treated - self.plan["control"]
        better = gain >= _CLEAR_GAIN and treated > 1.2 / int((of > 0).sum())
        outcome = "confirmed" if better else "refuted" if gain < _NO_GAIN else "inconclusive"
        return [
            {
                **note,
                "outcome": outcome,
                "control": self.plan["control"],
                "treated": treated,
                "size": gain,
                "steps": self.recorder.step,
            }
        ]
