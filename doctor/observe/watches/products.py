"""Products with weights at the very first step: how much larger or smaller they leave what they take."""

from __future__ import annotations

from typing import Any

import torch

from doctor.observe.watch import Watch

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "linear", "_linear")


class ProductWatch(Watch):
    """Matrix products and convolutions with a parameter, on the first tape."""

    def install(self) -> None:
        """Listen to products."""
        self._found: dict[tuple[str, str], dict[str, Any]] = {}
        for name in _PRODUCTS:
            self.recorder.on_operation.setdefault(name, []).append(self._product)

    def _product(self, name: str, where: dict[str, Any], inputs: list[torch.Tensor], outputs: Any) -> None:
        if self.recorder.step or not outputs or not torch.is_grad_enabled():
            return
        self.guarded(self._note)(name, where, inputs, outputs[0])

    def _note(self, name: str, where: dict[str, Any], inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        factors = inputs[1:3] if name in ("addmm", "baddbmm") else inputs[:2]
        if len(factors) < 2:
            return
        bases = [tensor if tensor._base is None else tensor._base for tensor in factors]
        for at, base in enumerate(bases):
            known = self.recorder.naming.parameter(base)
            if known is None or not base.requires_grad or not base.is_floating_point() or base.dim() < 2:
                continue
            weight, other = factors[at], factors[1 - at]
            convolves = name == "convolution"
            # The weight's contracted axis: rows of a right factor, columns of a left one.
            fan_in = weight[0].numel() if convolves else weight.shape[-2 if at == 1 else -1]
            taken, given = _rms(other), _rms(output)
            self._found.setdefault(
                (known, where.get("module") or ""),
                {
                    "parameter": known,
                    "module": where.get("module") or "",
                    "module_kind": where.get("kind") or "",
                    "line": where.get("line"),
                    "fan_in": fan_in,
                    "weight_rms": _rms(weight),
                    "input_rms": taken,
                    "output_rms": given,
                    "order": len(self._found),
                },
            )
            return

    def finish(self) -> None:
        """One event a product."""
        for record in self._found.values():
            self.recorder.stream.emit("product", **record)


def _rms(tensor: torch.Tensor) -> float:
    return float(tensor.detach().float().square().mean().sqrt()) if tensor.numel() else 0.0
