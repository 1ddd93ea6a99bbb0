"""Live data sets as evidence: map-style and iterable torch data sets, loaders, lists of samples, `datasets.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from doctor.errors import DoctorError
from doctor.evidence.samples import TRAINING
from doctor.evidence.tensor_samples import TensorSamples
from doctor.evidence.text_records import TextRecords
from doctor.progress import Progress
from doctor.samples.records import form_of
from doctor.samples.scan_arrays import as_array
from doctor.samples.scan_texts import scan_records
from doctor.samples.tensors import TensorScan
from doctor.samples.tokens import Tokenizing

Array = npt.NDArray[Any]
MOST_SAMPLES = 200_000
_PEEKED = 50
_INPUTS = ("x", "image", "img", "pixel_values", "input_values", "input_ids", "inputs", "input", "features", "data")
_TARGETS = ("y", "label", "labels", "target", "targets", "class")


def scan_objects(
    by_split: Mapping[str | None, Any],
    progress: Progress,
    target: str | None = None,
    tokenizing: Tokenizing | None = None,
    most: int = MOST_SAMPLES,
) -> TensorSamples | TextRecords:
    """Take every sample of every split once, up to `most` of each; raises DoctorError when there is none to be had.

    The global random state is put back: augmentation that draws from it does not change the program around.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        state = np.random.get_state()
        try:
            return _scan(by_split, progress, target, tokenizing, most)
        finally:
            np.random.set_state(state)


def _scan(
    by_split: Mapping[str | None, Any], progress: Progress, target: str | None, tokenizing: Tokenizing | None, most: int
) -> TensorSamples | TextRecords:
    first = _first(next(iter(by_split.values())))
    if isinstance(first, Mapping) and form_of([first] * _PEEKED, target) is not None:
        stream = (
            ((split or TRAINING, split or "data", index), sample)
            for split, held in by_split.items()
            for index, sample in _samples(held, most, [])
        )
        return scan_records(stream, progress, target, tokenizing)
    counts = [len(_length(held)) for held in by_split.values()]
    progress.start("taking samples", sum(counts) or None)
    scan = TensorScan("sample", None)
    notes, names, workers = [], ("x", "y"), 0
    for split, held in by_split.items():
        taken = 0
        failed: list[tuple[int, str]] = []
        for index, sample in _samples(held, most, failed):
            x, y, names = _pair(sample, target)
            scan.take(split or "data", index, split, x, y)
            taken += 1
            if taken % 200 == 0:
                progress.advance(len(scan))
        scan.failed += [(split or TRAINING, split or "data", index, reason) for index, reason in failed]
        total = len(_length(held))
        if total > taken + len(failed) and taken >= most:
            notes.append(f"{taken} of {total} samples of {split or 'the data set'} were examined")
        workers = max(workers, getattr(held, "num_workers", 0) if _iterable(getattr(held, "dataset", None)) else 0)
    progress.finish()
    if not len(scan):
        reason = scan.failed[0][3] if scan.failed else "it is empty"
        raise DoctorError(f"no sample could be taken: {reason}", "give a data set of (input, target) pairs")
    return scan.result(*names, workers=workers, notes=tuple(notes))


def _length(held: Any) -> range:
    """How many samples there are, as far as the object says."""
    inner = getattr(held, "dataset", held)
    try:
        return range(len(inner))
    except (TypeError, NotImplementedError):
        return range(0)


def _iterable(held: Any) -> bool:
    import torch

    return isinstance(held, torch.utils.data.IterableDataset)


def _first(held: Any) -> Any:
    for _, sample in _samples(held, 1, []):
        return sample
    return None


def _samples(held: Any, most: int, failed: list[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """The samples with their numbers. A loader's batches are taken apart; a sample that raises is noted and left out."""
    import torch

    if isinstance(held, torch.utils.data.DataLoader):
        index = 0
        batched = held.batch_sampler is not None or held.batch_size is not None
        for batch in held:
            for sample in _apart(batch) if batched else (batch,):
                yield index, sample
                index += 1
                if index >= most:
                    return
        return
    if hasattr(held, "__getitem__") and hasattr(held, "__len__") and not isinstance(held, Mapping):
        for index in range(min(len(held), most)):
            try:
                sample = held[index]
            except Exception as failure:  # the user's code: whatever it raises is what is to be told
                failed.append((index, f"{type(failure).__name__}: {failure}"))
                continue
            yield index, sample
        return
    if not hasattr(held, "__iter__"):
        raise DoctorError(
            f"{type(held).__name__} is no data set", "give a Dataset, a DataLoader or an iterable of samples"
        )
    for index, sample in enumerate(held):
        if index >= most:
            return
        yield index, sample


def _apart(batch: Any) -> Iterator[Any]:
    """The samples of a collated batch."""
    if isinstance(batch, Mapping):
        keys = list(batch)
        for values in zip(*(batch[key] for key in keys), strict=False):
            yield dict(zip(keys, values, strict=True))
    elif isinstance(batch, (tuple, list)):
        yield from zip(*batch, strict=False)
    else:
        yield from batch


def _pair(sample: Any, target: str | None) -> tuple[Array, Any, tuple[str, str]]:
    if isinstance(sample, Mapping):
        y_key = target if target in sample else next((key for key in _TARGETS if key in sample), None)
        x_key = next((key for key in _INPUTS if key in sample and key != y_key), None)
        x_key = x_key or next((key for key, value in sample.items() if key != y_key and _shaped(value)), None)
        if x_key is None:
            raise DoctorError(f"no input among {', '.join(map(str, sample))}", f"known: {', '.join(_INPUTS)}")
        return _array(sample[x_key]), _target(sample.get(y_key)) if y_key else None, (str(x_key), str(y_key or ""))
    if isinstance(sample, (tuple, list)) and sample:
        return _array(sample[0]), _target(sample[1]) if len(sample) > 1 else None, ("x", "y")
    return _array(sample), None, ("x", "")


def _shaped(value: Any) -> bool:
    return hasattr(value, "shape") or isinstance(value, (list, tuple)) or hasattr(value, "getbands")


def _array(value: Any) -> Array:
    import torch

    if isinstance(value, torch.Tensor):
        return as_array(value)
    if isinstance(value, (str, bytes)):
        raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
        return np.frombuffer(raw, np.uint8)
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise DoctorError(f"an input is a {type(value).__name__}", "give tensors, arrays, pictures or numbers")
    return array


def _target(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return as_array(value)
    if value is None or isinstance(value, (str, int, float, np.generic, np.ndarray)):
        return value
    if isinstance(value, Sequence):
        return np.asarray(value) if all(isinstance(part, (int, float)) for part in value) else None
    return None
