"""Whether the running statistics of the batch norms fit what flows through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.observe.metamorphic.session import Session, spread

_MOST_LAYERS = 64


def gap(session: Session) -> dict[str, Any] | None:
    """The same batch normalised by running and by its own statistics, everything else in eval mode."""
    layers = [
        (path, part)
        for path, part in session.call.module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
        and part.running_mean is not None
        and path not in session.call.capture.resting
    ][:_MOST_LAYERS]
    if not layers:
        return None
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor, int]]] = {path: [] for path, _ in layers}
    before = {path: _copied(part) for path, part in layers}
    handles = [part.register_forward_pre_hook(_noting(seen[path])) for path, part in layers]
    try:
        after = session.run(mode="batchnorm")
    finally:
        for handle in handles:
            handle.remove()
    size = _gap(session, after.tensors)
    if size is None:
        return None
    found = [_layer(session, path, part, seen[path], before[path]) for path, part in layers if seen[path]]
    return {"gap": size, "layers": sorted(found, key=lambda layer: -layer["misfit"])[:6], "count": len(layers)}


def _copied(part: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return part.running_mean.clone(), part.running_var.clone()


def _noting(into: list[tuple[torch.Tensor, torch.Tensor, int]]) -> Any:
    def hook(module: nn.Module, args: Any) -> None:
        x = args[0].detach()
        axes = [axis for axis in range(x.dim()) if axis != 1]
        into.append((x.mean(axes), x.var(axes, correction=0), x.numel() // x.shape[1]))

    return hook


def _gap(session: Session, after: list[tuple[str, torch.Tensor]]) -> float | None:
    for (_, old), (_, new) in zip(session.outputs.tensors, after, strict=False):
        scale = spread(new)
        if old.shape == new.shape and scale > 0:
            return float((old - new).double().square().mean().sqrt()) / scale
    return None


def _layer(session: Session, path: str, part: Any, seen: Any, before: Any) -> dict[str, Any]:
    running_mean, running_var = before
    eps = part.eps
    mean = torch.stack([mean for mean, _, _ in seen])
    var = torch.stack([var for _, var, _ in seen])
    std = (var + eps).sqrt()
    shift = ((mean.mean(0) - running_mean).abs() / std.mean(0)).median()
    inside = var.mean(0) + mean.var(0, correction=0) if len(seen) > 1 else var[0]
    ratio = ((inside + eps) / (running_var + eps)).log().abs().median().exp()
    between = ratio_between = 0.0
    if len(seen) > 1:
        between = float(((mean.amax(0) - mean.amin(0)) / std.mean(0)).median())
        ratio_between = float((std.amax(0) / std.amin(0)).square().median())
    tracked = int(part.num_batches_tracked) if part.num_batches_tracked is not None else 0
    return {
        "path": path,
        "line": session.recorder.naming.created_line(part),
        "calls": len(seen),
        "values": min(count for _, _, count in seen),
        "momentum": part.momentum,
        "eps": eps,
        "tracked": tracked,
        "shift": float(shift),
        "ratio": float(ratio),
        "between": between,
        "ratio_between": ratio_between,
        "misfit": max(float(shift), float(ratio.log()), between),
    }
