"""Token ids on their way into embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doctor.observe.watch import Watch

_MOST_BATCHES = 60


class _Texts:
    """Ids of sequences, and how often two of a kind stand next to each other."""

    def __init__(self, rows: int) -> None:
        self.batches = self.sequences = 0
        self.counts = torch.zeros(min(rows, 200_000), dtype=torch.int64)
        self.pairs = torch.zeros_like(self.counts)

    def add(self, ids: torch.Tensor) -> None:
        """Count `(sequences, length)` ids."""
        self.batches += 1
        self.sequences += len(ids)
        doubled = ids[:, 1:][ids[:, 1:] == ids[:, :-1]]
        for counts, found in ((self.counts, ids.reshape(-1)), (self.pairs, doubled)):
            counts += torch.bincount(found[found < len(counts)], minlength=len(counts))

    def shares(self, left_out: set[int | None]) -> torch.Tensor:
        """Of each id among the tokens that are none of these."""
        counts = self.counts.double()
        for number in left_out:
            if number is not None and 0 <= number < len(counts):
                counts[number] = 0.0
        return counts / counts.sum().clamp(min=1.0)


def _strange(training: _Texts, evaluation: _Texts, left_out: set[int | None]) -> list[float]:
    """The id that evaluation has most above training: its number, its shares in training and in evaluation, the share of
    its places in evaluation that are followed by itself, and the sequences of both.
    """
    before, after = training.shares(left_out), evaluation.shares(left_out)
    number = int((after - before).argmax())
    runs = float(evaluation.pairs[number]) / max(1, int(evaluation.counts[number]))
    return [number, float(before[number]), float(after[number]), runs, training.sequences, evaluation.sequences]


class VocabularyWatch(Watch):
    """Range and frequencies of the ids of every embedding, and what fills the ends of the sequences."""

    def install(self) -> None:
        """In front of the lookup."""
        self._records: dict[Any, dict[str, Any]] = {}
        self.recorder.patches.wrap(nn.functional, "embedding", self._around)

    def _around(self, original: Any, input: Any, weight: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(input, torch.Tensor) and isinstance(weight, torch.Tensor) and not self.recorder.busy:
            self.guarded(self._note)(input, weight, kwargs.get("padding_idx", args[0] if args else None))
        return original(input, weight, *args, **kwargs)

    def _note(self, ids: torch.Tensor, weight: torch.Tensor, padding: Any) -> None:
        recorder = self.recorder
        if torch.compiler.is_compiling() or ids.is_floating_point() or not ids.numel():
            return
        module = recorder.stack[-1] if recorder.stack else None
        own = module is not None and any(parameter is weight for parameter in module._parameters.values())
        key = (id(module) if own else 0, weight.shape[0])
        record = self._records.get(key)
        if record is None:
            root, path = recorder.naming.place(module) if own and module is not None else (-1, "")
            record = self._records[key] = {
                "root": root, "module": path, "rows": weight.shape[0], "padding_idx": padding, "batches": 0,
                "created": recorder.naming.created_line(module) if own and module is not None else None,
                "line": recorder.frames.line(), "low": None, "high": None, "sequences": 0, "length": 0,
                "counts": torch.zeros(min(weight.shape[0], 200_000), dtype=torch.int64), "fill": {}, "filled": 0,
                "interior": 0, "interior_of": 0, "doubled": 0, "starts": {}, "full": 0, "left": {},
                "training": _Texts(weight.shape[0]), "evaluation": _Texts(weight.shape[0]),
            }  # fmt: skip
        record["batches"] += 1
        low, high = int(ids.min()), int(ids.max())
        record["low"] = low if record["low"] is None else min(low, record["low"])
        record["high"] = high if record["high"] is None else max(high, record["high"])
        if ids.dim() == 2 and min(ids.shape) >= 4 and recorder.stack and low >= 0:
            part = record["training" if recorder.stack[0].training else "evaluation"]
            if part.batches < _MOST_BATCHES:
                part.add(ids.detach().cpu().long())
        if record["batches"] > _MOST_BATCHES or low < 0 or high >= weight.shape[0]:
            return
        flat = ids.detach().reshape(-1).cpu().long()
        record["counts"] += torch.bincount(flat[flat < len(record["counts"])], minlength=len(record["counts"]))
        if ids.dim() == 2 and ids.shape[1] >= 4:
            self._note_sequences(record, ids.detach().cpu().long(), padding)

    def _note_sequences(self, record: dict[str, Any], ids: torch.Tensor, padding: Any) -> None:
        last = ids[:, -1:]
        tail = (ids == last).flip(1).cumprod(1).sum(1)  # length of the run at the end
        record["sequences"] += len(ids)
        record["length"] = max(record["length"], ids.shape[1])
        for value, run in zip(last[:, 0].tolist(), tail.tolist(), strict=True):
            if run >= 2:
                record["fill"][value] = record["fill"].get(value, 0) + 1
                record["filled"] += run
        head = (ids == ids[:, :1]).cumprod(1).sum(1)
        for value, run in zip(ids[:, 0].tolist(), head.tolist(), strict=True):
            if run >= 3:
                record["left"][value] = record["left"].get(value, 0) + 1
        doubled = (ids[:, 0] == ids[:, 1]) & (head == 2)
        record["doubled"] += int(doubled.sum())
        for value in ids[doubled, 0].tolist():
            record["starts"][value] = record["starts"].get(value, 0) + 1
        if padding is not None:
            pad = ids == padding
            inner = pad & ((~pad).flip(1).cumsum(1).flip(1) > 0) & ((~pad).cumsum(1) > 0)
            record["interior"] += int(inner.sum())
            record["interior_of"] += int((~pad).sum()) + int(inner.sum())

    def finish(self) -> None:
        """One event an embedding."""
        for record in self._records.values():
            counts = record.pop("counts")
            total = max(1, int(counts.sum()))
            top = torch.topk(counts, min(5, len(counts)))
            record["most"] = [
                [int(i), int(n) / total] for n, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
            ]
            record["used"] = int((counts > 0).sum())
            record["strange"] = _strange(
                record.pop("training"), record.pop("evaluation"), {*record["fill"], record["padding_idx"]}
            )
            record["tokens"] = total
            for name in ("fill", "starts", "left"):
                record[name] = sorted(record[name].items(), key=lambda item: -item[1])[:5]
            self.recorder.stream.emit("tokens", **record)
