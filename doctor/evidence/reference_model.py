"""What the training code would build, and how the artifact's keys and values compare with it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError, Unavailable
from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.base import Evidence
from doctor.evidence.reference_process import ReferenceProcess
from doctor.probes import probe

_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "base_model.model.", "_fsdp_wrapped_module.")


@dataclass(frozen=True)
class ReferenceTensor:
    """One entry of the reference's state dict. `drawn`: another at every start, hence no trained value."""

    shape: tuple[int, ...]
    dtype: str
    parameter: bool = True
    drawn: bool = True


@dataclass(frozen=True)
class Comparison:
    """An artifact's tensor against the reference's of the same name: the root mean square of the difference and of the
    reference, the largest difference, and how many values the artifact's sample distinguishes.
    """

    difference: float
    size: float
    largest: float
    levels: int

    @property
    def relative(self) -> float:
        """The difference as a share of the reference's size."""
        return self.difference / self.size if self.size else float(self.difference > 0)


@dataclass(frozen=True)
class ReferenceModel(Evidence):
    """The state dict, ties and layers of the reference; `transient` are buffers that no state dict holds.

    `compared` are tensors whose values were compared, by the reference's name; `prefix` is what the artifact's names
    have in front (`module.`), or, with a leading `-`, what they lack. `classes` are its layers' classes in full
    (`net.Block`).
    """

    state: Mapping[str, ReferenceTensor]
    transient: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    prefix: str = ""
    compared: Mapping[str, Comparison] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def own_classes(self) -> frozenset[str]:
        """The user's classes of layers as a pickle names them, also one that was written by the script itself."""
        names = [name for name in self.classes if not name.startswith("torch.")]
        names = [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names]
        return frozenset(names) | {f"__main__.{name.rpartition('.')[2]}" for name in names}

    @cached_property
    def _tied(self) -> dict[str, tuple[str, ...]]:
        return {name: group for group in self.ties for name in group}

    def aligned(self, names: Iterable[str]) -> dict[str, str]:
        """The artifact's names by the reference's, the prefix taken off or put on."""
        return {adapted(name, self.prefix): name for name in names}

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Entries that the artifact lacks; of tied ones, one suffices."""
        have = set(self.aligned(names))
        return tuple(
            name
            for name in self.state
            if name not in have and not any(other in have for other in self._tied.get(name, ()))
        )

    def unexpected(self, names: Iterable[str]) -> tuple[str, ...]:
        """Names of the artifact (as the reference would write them) that the reference has not."""
        known = self.state.keys() | set(self.transient) | {name for group in self.ties for name in group}
        return tuple(name for name in self.aligned(names) if name not in known)


def adapted(name: str, prefix: str) -> str:
    """An artifact's name as the reference writes it."""
    name = name.replace("_orig_mod.", "") if "_orig_mod." in prefix else name
    prefix = prefix.replace("_orig_mod.", "")
    if prefix.startswith("-"):
        return prefix[1:] + name
    return name.removeprefix(prefix)


def common_prefix(names: Iterable[str], reference: Iterable[str]) -> str:
    """What stands before the artifact's names that are otherwise the reference's; `-` and what is lacking; or ""."""
    ours, theirs = set(names), set(reference)
    if not ours or not theirs or len(ours & theirs) * 2 >= min(len(ours), len(theirs)):
        return ""
    compiled = {name.replace("_orig_mod.", "") for name in ours}
    mark = "_orig_mod." if compiled != ours else ""
    if mark and len(compiled & theirs) * 2 >= min(len(ours), len(theirs)):
        return mark
    for sign, long, short in (("", compiled, theirs), ("-", theirs, compiled)):
        fronts: Counter[str] = Counter()
        for name in long:
            parts = name.split(".")
            fronts.update(".".join(parts[:cut]) + "." for cut in range(1, len(parts)) if ".".join(parts[cut:]) in short)
        if fronts:
            front, count = max(fronts.items(), key=lambda item: (item[1], len(item[0])))
            if count * 2 >= min(len(ours), len(theirs)) and count >= 2:
                return sign + mark + front if not sign else sign + front
    return ""


@probe
def reference_model(source: ArtifactSource, contents: ArtifactContents, built: ReferenceProcess) -> ReferenceModel:
    """Wait for the child process that builds it, and compare names and values."""
    try:
        facts = built.process.facts()
    except DoctorError as failure:
        raise Unavailable(str(failure)) from None
    state = {
        name: ReferenceTensor(tuple(entry["shape"]), entry["dtype"], entry["parameter"], entry["drawn"])
        for name, entry in facts["state"].items()
    }
    entries = {tensor.name: tensor for tensor in contents.weights}
    prefix = common_prefix(entries, state)
    compared = _compare(source, entries, prefix, facts["state"], state, built.process.values)
    ties = tuple(tuple(group) for group in facts["ties"])
    return ReferenceModel(
        state,
        tuple(facts["transient"]),
        ties,
        facts["modules"],
        facts["class"],
        prefix,
        compared,
        tuple(facts["classes"]),
    )


def _compare(
    source: ArtifactSource,
    entries: Mapping[str, TensorEntry],
    prefix: str,
    written: Mapping[str, Mapping[str, int]],
    state: Mapping[str, ReferenceTensor],
    values: Path | None,
) -> dict[str, Comparison]:
    import numpy as np

    compared: dict[str, Comparison] = {}
    if values is None:
        return compared
    with values.open("rb") as stream:
        for name, entry in entries.items():
            own = adapted(name, prefix)
            other = state.get(own)
            if other is None or other.drawn or other.shape != entry.shape or "offset" not in written[own]:
                continue
            if "float" not in other.dtype or not entry.numel:
                continue
            ours = _real_values(Path(source.root), entry, entries)
            if ours is None:
                continue
            stream.seek(written[own]["offset"])
            kind = np.float64 if other.dtype == "float64" else np.float32
            theirs = np.frombuffer(stream.read(written[own]["nbytes"]), kind).astype(np.float64).reshape(entry.shape)
            with np.errstate(all="ignore"):
                gap = np.subtract(ours.astype(np.float64), theirs)
                gap = gap[np.isfinite(gap)]
                size = float(np.sqrt(np.mean(theirs**2)))
            if gap.size:
                levels = len(np.unique(ours.ravel()[:: max(1, ours.size // 4096)][:4096]))
                root = float(np.sqrt(np.mean(gap**2)))
                compared[own] = Comparison(root, size, float(np.abs(gap).max()), levels)
    return compared


def _real_values(root: Path, entry: TensorEntry, entries: Mapping[str, TensorEntry]) -> Any:
    """A tensor's values; those of a quantised one by the scale and zero point that are stored with it."""
    from doctor.formats import numbers

    stored = numbers.array(root, entry, limit=1 << 30)
    if stored is None or ("float" in entry.dtype and "float8" not in entry.dtype):
        return stored
    scale = _companion(root, entry, entries, "scale")
    if scale is None:
        return stored if "float8" in entry.dtype else None
    zero = _companion(root, entry, entries, "zero_point")
    return (stored.astype("float64") - (0 if zero is None else zero)) * scale


def _companion(root: Path, entry: TensorEntry, entries: Mapping[str, TensorEntry], kind: str) -> Any:
    """The scale or zero point of a quantised tensor: one number, or one for each row."""
    from doctor.formats import numbers

    base = entry.name.rpartition(".")[0]
    for name in (f"{entry.name}_{kind}", f"{entry.name}.{kind}", f"{base}.{kind}", f"{base}.{kind}s"):
        other = entries.get(name)
        values = numbers.array(root, other) if other is not None else None
        if values is not None and values.size in (1, entry.shape[0]):
            sides = (-1,) + (1,) * (len(entry.shape) - 1) if values.size > 1 else (1,) * len(entry.shape)
            return values.astype("float64").reshape(sides)
    return None


def quantises(name: str, names: Mapping[str, TensorEntry]) -> bool:
    """Whether an entry is the scale or zero point of a quantised tensor of the same layer."""
    base, _, last = name.rpartition(".")
    if not re.search(r"scale|zero_point|zeros|g_idx|absmax|quant", last):
        return False
    return any(
        other.rpartition(".")[0] in (base, base.rpartition(".")[0])
        and ("int" in entry.dtype or "float8" in entry.dtype)
        for other, entry in names.items()
    )
