"""Samples as they pass: which of those that training and evaluation forwards are fed are the same."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from doctor.observe import entries, twins
from doctor.observe.fingerprints import fingerprints
from doctor.observe.frames import Line
from doctor.observe.watch import Watch

_SHORT = 12  # ids; fewer words in a row come back in any text
_VARIED = 0.5  # of the pieces of evaluated windows differ; the few values of one-hot columns come back in any table
_MOST_BATCHES = 400  # of each kind whose samples are fingerprinted
_MOST_FRAMES = 6
_PIECES = 8  # least length of a piece of a window that is looked for in other windows


@dataclass
class _Group:
    """Evaluation batches that came over the same lines of the program from the same loader."""

    line: Line | None
    loader: int | None
    root: int
    steps: set[int] = field(default_factory=set)
    keys: list[torch.Tensor] = field(default_factory=list)
    seen: list[torch.Tensor] = field(default_factory=list)  # which of them were trained on before
    read: torch.Tensor | None = None  # of the latest call, where a decoder reads beside it
    written: bool = False  # whether that call went on with the text of the one before
    different: set[int] = field(default_factory=set)  # of its pieces
    pieces: int = 0
    pieces_seen: int = 0


@dataclass
class _Loader:
    dataset: Any
    indices: Any
    repeats: bool
    iterable: bool
    workers: int
    subset_line: Line | None


class PassingWatch(Watch):
    """Fingerprints of the inputs of every root."""

    def install(self) -> None:
        """Keep the data sets of loaders, and the lines on which subsets are made."""
        self._trained: dict[int, dict[int, int]] = {}
        self._read: dict[int, dict[int, int]] = {}  # what encoders were trained on, whatever their decoders read
        self._batches: dict[int, list[torch.Tensor]] = {}
        self._pieces: dict[int, set[int]] = {}
        self._groups: dict[Any, _Group] = {}
        self._ids: set[int] = set()  # roots that read whole numbers
        self._examples: dict[int, list[torch.Tensor]] = {}
        self._loaders: dict[int, _Loader] = {}
        self._epochs: dict[tuple[int, int], list[torch.Tensor]] = {}
        self._epoch = 0
        self._counts = {"train": 0, "eval": 0}
        self._places: dict[tuple[int, str], int] = {}
        self._given = 0
        self._latest: tuple[int | None, int, Any] | None = None
        self._lines: dict[int, Line | None] = {}
        wrap = self.recorder.patches.wrap
        wrap(DataLoader, "__init__", self._loader_made)
        wrap(DataLoader, "__iter__", self._iterated)
        wrap(Subset, "__init__", self._subset_made)

    def _subset_made(self, original: Any, subset: Any, *args: Any, **kwargs: Any) -> None:
        self._lines[id(subset)] = self.recorder.frames.line()
        original(subset, *args, **kwargs)

    def _loader_made(self, original: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        original(loader, *args, **kwargs)
        self.guarded(self._keep_loader)(loader)

    def _keep_loader(self, loader: Any) -> None:
        index = getattr(loader, "_doctor_index", None)
        if index is None:
            return
        iterable = isinstance(loader.dataset, IterableDataset)
        sampler = None if iterable else loader.sampler
        plain = type(sampler).__name__ in ("RandomSampler", "SequentialSampler", "SubsetRandomSampler")
        repeats = not plain or bool(getattr(sampler, "replacement", False))
        dataset, indices, line = _resolved(loader.dataset, self._lines)
        if type(sampler).__name__ == "SubsetRandomSampler":
            chosen = [int(i) for i in getattr(sampler, "indices", ())]
            indices = chosen if indices is None else [indices[i] for i in chosen]
        elif not plain:
            indices = None
            dataset = None
        self._loaders[index] = _Loader(dataset, indices, repeats, iterable, loader.num_workers, line)

    def _iterated(self, original: Any, loader: Any) -> Any:
        self._epoch += 1
        return original(loader)

    # -- calls --------------------------------------------------------------------------------------------------

    def after_entry(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A model returned: note what it was called with."""
        entry = entries.entry(self.recorder, module, args, kwargs, result)
        if entry is None:
            return
        kind, named = entry.kind, entry.named
        counted = "eval" if kind == "eval" else "train"
        if len(named[0][1]) < 2 and self._counts[counted] > 50:
            return
        if self._counts[counted] >= _MOST_BATCHES:
            return
        self._counts[counted] += 1
        mask = kwargs.get("attention_mask")
        keys = fingerprints([part for _, part in named], mask if isinstance(mask, torch.Tensor) else None)
        place = self._places.setdefault(entry.place, len(self._places))
        loader = self._fresh_loader()
        if kind == "train":
            self._note_training(place, keys, named, loader)
        elif self._trained.get(place):
            # In eval mode with gradients, it is an evaluation without no_grad, where there is a training mode as well.
            self._note_evaluation(place, keys, named, loader)

    def _fresh_loader(self) -> int | None:
        """The loader that gave a batch since the last call of a model."""
        given = sum(record["batches"] for record in self.recorder.loaders.records)
        fresh, self._given = given > self._given, given
        return self.recorder.loaders._last if fresh else None

    def _note_training(self, root: int, keys: torch.Tensor, named: Any, loader: int | None) -> None:
        seen, step = self._trained.setdefault(root, {}), self.recorder.step
        for key in keys.tolist():
            seen.setdefault(key, step)
        if _reads_pairs(named):
            known = self._read.setdefault(root, {})
            for key in fingerprints([named[0][1]]).tolist():
                known.setdefault(key, step)
        self._batches.setdefault(root, []).append(keys)
        first = named[0][1]
        if not first.is_floating_point():
            self._ids.add(root)
        if len(self._examples.setdefault(root, [])) < 8 and first.dim() >= 2:
            flat = first.reshape(len(first), -1)
            self._examples[root].append(flat[:256, :: max(1, flat.shape[1] // 1024)].float().cpu().clone())
        if loader is not None:
            self._epochs.setdefault((loader, self._epoch), []).append(keys)
        pieces = _pieces(first, every=True)
        if pieces is not None and len(self._pieces.setdefault(root, set())) < 500_000:
            self._pieces[root].update(pieces.reshape(-1).tolist())

    def _note_evaluation(self, root: int, keys: torch.Tensor, named: Any, loader: int | None) -> None:
        seen = self._trained[root]
        lines = tuple(self._user_lines())
        if loader is None and self._latest is not None and self._latest[1:] == (root, lines):
            loader = self._latest[0]  # a loop that fetches one batch ahead
        self._latest = (loader, root, lines)
        key = (root, loader, lines)
        group = self._groups.get(key)
        if group is None:
            line = self.recorder.frames.line()
            group = self._groups[key] = _Group(line, loader, root)
        group.steps.add(self.recorder.step)
        if _reads_pairs(named) and self._writes(group, named[0][1], self._read.get(root, {})):
            return
        if _are_sequences(named[0][1]):
            keys = keys[_own_length(named[0][1]) >= _SHORT]
        group.keys.append(keys)
        group.seen.append(torch.tensor([number in seen for number in keys.tolist()], dtype=torch.bool))
        pieces = _pieces(named[0][1], every=False)
        known = self._pieces.get(root)
        if pieces is not None and known:
            numbers = pieces.reshape(-1).tolist()
            found = [number in known for number in numbers]
            group.different.update(numbers)
            group.pieces += len(found)
            group.pieces_seen += sum(found)

    def _writes(self, group: _Group, read: torch.Tensor, known: dict[int, int]) -> bool:
        """Whether a decoder is called again for what its encoder has just read: a text is written, id by id.

        Then the texts that are read are the samples, by themselves.
        """
        keys = fingerprints([read])
        again = group.read is not None and torch.equal(group.read, keys)
        if again and not group.written and group.keys:
            long = _own_length(read) >= _SHORT
            group.keys[-1] = keys[long]
            group.seen[-1] = torch.tensor([number in known for number in keys[long].tolist()], dtype=torch.bool)
        group.read, group.written = keys, again
        return again

    def _user_lines(self) -> list[tuple[str, int]]:
        frame = sys._getframe(1)
        lines: list[tuple[str, int]] = []
        while frame is not None and len(lines) < _MOST_FRAMES:
            name = self.recorder.frames.name(frame.f_code.co_filename)
            if name is not None:
                lines.append((name, frame.f_lineno))
            frame = frame.f_back  # type: ignore[assignment]
        return lines

    # -- report -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Events of what was the same."""
        emit = self.recorder.stream.emit
        for root, batches in self._batches.items():
            emit("training-samples", **self._repeats(root, batches))
        for group in self._groups.values():
            if sum(map(len, group.keys)):
                emit("evaluation-samples", **self._overlap(group))
        self._report_indices()
        self._report_workers()

    def _repeats(self, root: int, batches: list[torch.Tensor]) -> dict[str, Any]:
        rows = [part for part in self._examples.get(root, []) if part.shape[1] == self._examples[root][0].shape[1]]
        distinct, columns = _richness(torch.cat(rows)) if rows else (0.0, 0)
        if root in self._ids and rows and rows[0].shape[1] < _SHORT:
            columns = 0
        best: dict[str, Any] = {"loader": None, "samples": 0, "repeated": 0, "unevenness": None}
        for (loader, _), keys in self._epochs.items():
            known = self._loaders.get(loader)
            if known is None or known.repeats or known.iterable:
                continue
            together = torch.cat(keys)
            if len(together) > best["samples"]:
                best = {
                    "loader": loader,
                    "samples": len(together),
                    "repeated": len(together) - len(torch.unique(together)),
                    "unevenness": _unevenness(together),
                }
        largest = max(batches, key=len)
        if not self._epochs and len(largest) >= 64:
            repeated = len(largest) - len(torch.unique(largest))
            best = {
                "loader": None, "samples": len(largest), "repeated": repeated, "unevenness": _unevenness(largest)
            }  # fmt: skip
        return {
            "root": root, "distinct": len(self._trained.get(root, ())), "continuous_share": distinct,
            "continuous_columns": columns, "batches": len(batches), "passes_samples": best["samples"],
            "passes_repeated": best["repeated"], "passes_unevenness": best["unevenness"], "loader": best["loader"],
        }  # fmt: skip

    def _overlap(self, group: _Group) -> dict[str, Any]:
        keys, seen = torch.cat(group.keys), torch.cat(group.seen)
        unique, where = torch.unique(keys, return_inverse=True)
        first = torch.zeros(len(unique), dtype=torch.bool)
        first[where[seen]] = True
        trained = self._trained[group.root]
        covered = torch.isin(torch.tensor(list(trained)), unique).float().mean()
        known = self._loaders.get(group.loader) if group.loader is not None else None
        varied = len(group.different) >= _VARIED * len(unique)
        return {
            "root": group.root, "line": group.line, "loader": group.loader, "batches": len(group.keys),
            "samples": len(unique), "seen": int(first.sum()), "trained": len(trained), "covered": float(covered),
            "steps": len(group.steps), "of_steps": self.recorder.step, "repeated": len(keys) > 1.5 * len(unique),
            "pieces": group.pieces if varied else 0, "pieces_seen": group.pieces_seen if varied else 0,
            "same_dataset": self._same_as_training(group.loader),
            "line_of_subset": known.subset_line if known else None,
        }  # fmt: skip

    def _training_loaders(self) -> list[int]:
        records = self.recorder.loaders.records
        return [r["index"] for r in records if r["used_in_training"] and r["index"] in self._loaders]

    def _same_as_training(self, loader: int | None) -> bool:
        """Whether it draws from a training loader's own data set, all of it."""
        mine = self._loaders.get(loader) if loader is not None else None
        if mine is None or mine.dataset is None:
            return False
        for index in self._training_loaders():
            other = self._loaders[index]
            if index == loader:
                return True
            if other.dataset is mine.dataset and other.indices == mine.indices:
                return True
        return False

    def _report_indices(self) -> None:
        """Loaders that draw the same places of one data set for training and for evaluation."""
        training = self._training_loaders()
        for index, mine in self._loaders.items():
            record = self.recorder.loaders.records[index]
            if index in training or not record["batches"] or mine.dataset is None:
                continue
            pairs = [self._loaders[i] for i in training if _same_data(self._loaders[i], mine)]
            if not pairs or any(other.indices != pairs[0].indices for other in pairs[1:]):
                continue  # none, or several folds
            length = _length(mine.dataset)
            ours = set(mine.indices if mine.indices is not None else range(length))
            theirs = set(pairs[0].indices if pairs[0].indices is not None else range(length))
            if not ours or ours == theirs:
                continue
            self.recorder.stream.emit(
                "shared-indices", loader=index, samples=len(ours), shared=len(ours & theirs), training=len(theirs),
                line=record["source"], line_of_subset=mine.subset_line, training_line=pairs[0].subset_line,
            )  # fmt: skip

    def _report_workers(self) -> None:
        """Batches of one epoch that several workers gave alike."""
        for (loader, _), keys in self._epochs.items():
            known = self._loaders.get(loader)
            if known is None or known.workers < 2 or len(keys) < 2:
                continue
            if known.repeats and not known.iterable:
                continue
            rounds = same = 0
            for start in range(0, len(keys) - known.workers + 1, known.workers):
                several = keys[start : start + known.workers]
                rounds += 1
                same += all(len(k) == len(several[0]) and bool((k == several[0]).all()) for k in several[1:])
            if rounds:
                self.recorder.stream.emit(
                    "worker-batches", loader=loader, workers=known.workers, rounds=rounds, same=same,
                    iterable=known.iterable, line=self.recorder.loaders.records[loader]["source"],
                )  # fmt: skip
                return


def _same_data(one: _Loader, other: _Loader) -> bool:
    """Whether two loaders draw from one data set, or from two that hold the same samples, augmented for training."""
    if one.dataset is other.dataset:
        return True
    if one.indices is None or other.indices is None or type(one.dataset) is not type(other.dataset):
        return False
    return _length(one.dataset) == _length(other.dataset) and twins.alike(one.dataset, other.dataset, one.indices)


def _resolved(dataset: Any, lines: dict[int, Line | None]) -> tuple[Any, Any, Line | None]:
    """The data set below all subsets, the places in it (None: all), and the line of the outermost subset."""
    indices: Any = None
    line = lines.get(id(dataset))
    while type(dataset) is Subset:
        own = [int(i) for i in dataset.indices]
        indices = own if indices is None else [own[i] for i in indices]
        dataset = dataset.dataset
    return dataset, indices, line


def _length(dataset: Dataset[Any]) -> int:
    try:
        return len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return 0


def _pieces(value: torch.Tensor, every: bool) -> torch.Tensor | None:
    """Fingerprints of pieces of windows `(samples, time)` or `(samples, time, features)`, half as long as they: at
    every place, or the middle one. Constant pieces, which could be anywhere, are left out by the caller's counts.
    """
    if value.dim() == 3 and value.shape[1] < 2 * _PIECES <= value.shape[2]:
        value = value.transpose(1, 2)  # convolutions read (samples, features, time)
    if not value.is_floating_point() or value.dim() not in (2, 3) or not 2 * _PIECES <= value.shape[1] <= 256:
        return None
    length = value.shape[1] // 2
    windows = value.unfold(1, length, 1)
    if not every:
        middle = windows.shape[1] // 2
        windows = windows[:, middle : middle + 1]
        varied = (windows != windows[..., :1]).flatten(1).sum(1) > length // 2
        windows = windows[varied]
        if not len(windows):
            return None
    elif windows.numel() > 2_000_000:
        return None
    flat = windows.reshape(-1, windows[0, 0].numel())
    return fingerprints([flat.contiguous()])


def _reads_pairs(named: Any) -> bool:
    """Whether a call is that of an encoder's and a decoder's tokens."""
    return len(named) == 2 and all(v.dim() == 2 and not v.is_floating_point() for _, v in named)


def _are_sequences(value: torch.Tensor) -> bool:
    return value.dim() == 2 and not value.is_floating_point() and value.shape[1] >= _SHORT


def _own_length(ids: torch.Tensor) -> torch.Tensor:
    """Ids a row besides the one that fills its end."""
    return (ids != ids[:, -1:]).sum(1).cpu()


def _richness(rows: torch.Tensor) -> tuple[float, int]:
    """Share of distinct values in the most varied columns, and how many columns are varied (a fifth distinct)."""
    shares = [len(torch.unique(column)) / len(rows) for column in rows.T[:128]]
    return max(shares), sum(share > 0.2 for share in shares)


def _unevenness(keys: torch.Tensor) -> float | None:
    """Variance over mean of how often each sample stands there: 1 and more by chance, near 0 for copies of all of them."""
    counts = torch.unique(keys, return_counts=True)[1].double()
    return float(counts.var() / counts.mean()) if len(counts) >= 2 else None
