"""Frozen parameters: how many there are, and whether their values were ever learnt."""

from __future__ import annotations

import linecache
import math
import re
from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_FREEZING = re.compile(r"requires_grad\s*=\s*False|requires_grad_\(\s*(requires_grad\s*=\s*)?False|\.freeze\w*\(")
_LEAST_ELEMENTS = 64
_LEAST_IN_TABLES = 200
_SAMPLE = 65536


class FrozenWatch(Watch):
    """Which roots were given learnt weights, and what their frozen weights look like."""

    def install(self) -> None:
        """Notice what is loaded."""
        self._loaded: set[int] = set()
        self._loads = 0
        self.recorder.patches.wrap(nn.Module, "load_state_dict", self._load)
        self.recorder.patches.wrap(torch, "load", self._file)

    def _load(self, original: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        self._loads += 1
        self._loaded |= {id(part) for part in module.modules()}
        return original(module, *args, **kwargs)

    def _file(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self._loads += 1
        return original(*args, **kwargs)

    def finish(self) -> None:
        """One event a root."""
        for index, root in self.recorder.naming.live_roots():
            record = {"root": index, "loads": self._loads, "parameters": 0, "frozen": 0, "examined": 0, "untrained": 0}
            names: list[str] = []
            tables = _Tables()
            for path, module in root.named_modules():
                for name, tensor in module.named_parameters(recurse=False):
                    record["parameters"] += tensor.numel()
                    if tensor.requires_grad:
                        continue
                    record["frozen"] += tensor.numel()
                    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and id(module) not in self._loaded:
                        tables.add(
                            f"{path}.{name}" if path else name, tensor, self.recorder.naming.created_line(module)
                        )
                    fresh = _looks_untrained(module, name, tensor)
                    if fresh is not None and id(module) not in self._loaded:
                        record["examined"] += 1
                        record["untrained"] += fresh
                        if fresh:
                            names.append(f"{path}.{name}" if path else name)
            pretrained = bool(getattr(getattr(root, "config", None), "_name_or_path", ""))
            drawn = tables.names if tables.are_drawn() else []
            self.recorder.stream.emit(
                "frozen", **record, names=names[:40], pretrained=pretrained, lines=self._lines() if names else [],
                tables=drawn[:40], line_of_tables=tables.lines[0] if drawn else None,
                by_default=bool(drawn) and self._by_default(tables.lines),
            )  # fmt: skip

    def _by_default(self, lines: list[Any]) -> bool:
        """Whether nobody asked for it: `from_pretrained` freezes unless it is told not to."""
        files = {name: filename for filename, name in self.recorder.frames._known.items() if name}
        texts = ["".join(linecache.getlines(files[line[0]])[line[1] - 1 : line[1] + 2]) for line in lines if line]
        return bool(texts) and all("from_pretrained(" in text and "freeze" not in text for text in texts)

    def _lines(self) -> list[Any]:
        """The user's lines that look like freezing."""
        found = []
        for filename, name in list(self.recorder.frames._known.items()):
            for number, text in enumerate(linecache.getlines(filename), 1) if name else ():
                if _FREEZING.search(text.partition("#")[0]) and not text.lstrip().startswith("def "):
                    found.append([name, number, ""])
        return found[:8]


class _Tables:
    """Frozen embedding tables of one root, looked at together: each may be small."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lines: list[Any] = []
        self._values: list[torch.Tensor] = []

    def add(self, name: str, tensor: torch.Tensor, line: Any) -> None:
        """One more; rows of a single value (padding) are left out."""
        values = tensor.detach().float().cpu()
        values = values[values.std(1) > 0] if values.dim() == 2 and values.shape[1] > 1 else values
        self.names.append(name)
        self.lines.append(line)
        if values.numel() > 1 and float(values.std()) > 0:
            self._values.append(((values - values.mean()) / values.std()).reshape(-1)[:_SAMPLE])

    def are_drawn(self) -> bool:
        """Whether the values follow a normal distribution, as those that `torch.randn` gives and training does not."""
        values = torch.cat(self._values) if self._values else torch.zeros(0)
        if len(values) < _LEAST_IN_TABLES:
            return False
        return bool(abs(float(values.pow(4).mean()) - 3) <= min(0.7, 4 * math.sqrt(24 / len(values)) + 0.02))


def _looks_untrained(module: nn.Module, name: str, tensor: torch.Tensor) -> bool | None:
    """Whether a weight still has the distribution that layers are initialised with; None where that cannot be told.

    The usual initialisations are uniform or normal with a deviation that follows from the layer's size; weights that
    have learnt have heavier tails and other deviations.
    """
    if tensor.dim() < 2 or tensor.numel() < _LEAST_ELEMENTS or not tensor.is_floating_point():
        return None
    if not isinstance(module, nn.Linear | nn.Embedding | nn.modules.conv._ConvNd | nn.RNNBase | nn.MultiheadAttention):
        return None
    values = tensor.detach().float().reshape(-1)[:: max(1, tensor.numel() // _SAMPLE)]
    count = values.numel()
    deviation, largest = float(values.std()), float(values.abs().max())
    if not deviation or not math.isfinite(deviation):
        return None
    receptive = math.prod(tensor.shape[2:])
    fan_in, fan_out = tensor.shape[1] * receptive, tensor.shape[0] * receptive
    tolerance = 3 / math.sqrt(2 * count) + 0.01
    if isinstance(module, nn.RNNBase):
        bounds = [1 / math.sqrt(module.hidden_size)]
    else:
        bounds = [1 / math.sqrt(fan_in), math.sqrt(6 / (fan_in + fan_out)), math.sqrt(6 / fan_in)]
    for bound in bounds:
        if 0.9 * bound < largest <= 1.0001 * bound and abs(deviation * math.sqrt(3) / bound - 1) < tolerance:
            return True
    peaked = float(((values - values.mean()) / deviation).pow(4).mean())
    if abs(peaked - 3) > 4 * math.sqrt(24 / count) + 0.02:
        return False
    usual = [0.02, 1.0, 0.01, math.sqrt(2 / fan_in), math.sqrt(2 / fan_out), math.sqrt(2 / (fan_in + fan_out))]
    usual += [1 / math.sqrt(fan_in)]
    return any(abs(deviation / known - 1) < tolerance for known in usual)
