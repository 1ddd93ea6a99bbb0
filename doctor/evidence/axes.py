"""What the axes of every tensor on the tape mean: each is followed from where it came into being.

An axis is made of atoms: `(batch, channels, height, width)` viewed as `(batch, features)` has the two axes
`(batch,)` and `(channels, height, width)`. A transposition moves atoms, a view joins or splits them, a layer replaces the
last axis by a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.probes import probe

Atoms = tuple[int, ...]
TARGETED = {
    "nll_loss_forward": 1, "nll_loss2d_forward": 1, "mse_loss": 1, "smooth_l1_loss": 1, "huber_loss": 1,
    "binary_cross_entropy": 1, "binary_cross_entropy_with_logits": 1,
}  # fmt: skip
_DRAWN = frozenset({"randn", "rand", "randint", "normal", "randn_like", "rand_like"})
_VIEWS = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias"})
_SAME_PLACE = frozenset(
    {"view", "_unsafe_view", "reshape", "_to_copy", "clone", "slice", "index", "squeeze", "unsqueeze"}
)


@dataclass(frozen=True)
class TensorAxes(Evidence):
    """Atoms of the axes by tensor id, on the first complete tape.

    `length` and `origin` are told by atom: the origin of a part of an axis, or of an axis that a stride shortened, is
    the axis that it came from. `batch` holds the origins which are known to count the samples.
    """

    of: Mapping[int, tuple[Atoms, ...]] = field(default_factory=dict)
    length: Mapping[int, int] = field(default_factory=dict)
    origin: Mapping[int, int] = field(default_factory=dict)
    batch: frozenset[int] = frozenset()

    def origins(self, tensor: int, axis: int) -> frozenset[int]:
        """Where the atoms of one axis came from."""
        axes = self.of.get(tensor, ())
        if not -len(axes) <= axis < len(axes):
            return frozenset()
        return frozenset(self.origin.get(atom, atom) for atom in axes[axis])

    def counts_samples(self, tensor: int, axis: int) -> bool:
        """Whether this axis is known to be the batch."""
        return bool(self.origins(tensor, axis) & self.batch)

    def batch_axes(self, tensor: int) -> tuple[int, ...]:
        """The axes of a tensor that count samples."""
        return tuple(axis for axis in range(len(self.of.get(tensor, ()))) if self.counts_samples(tensor, axis))


@probe
def tensor_axes(tape: OpTape, batches: BatchLog | None) -> TensorAxes:
    """Follow the axes over the first complete tape."""
    if not tape.tapes:
        raise Unavailable("no training step was taped")
    follower = _Follower()
    for op in tape.first.forward:
        follower.follow(op)
    return TensorAxes(follower.of, follower.length, follower.origin, _batch(tape.first, follower, batches))


class _Follower:
    def __init__(self) -> None:
        self.of: dict[int, tuple[Atoms, ...]] = {}
        self.length: dict[int, int] = {}
        self.origin: dict[int, int] = {}
        self.inputs: list[TensorNote] = []
        self._parameters: set[int] = set()
        self._split: dict[tuple[int, int], tuple[int, int]] = {}

    def new(self, length: int, origin: int | None = None) -> int:
        atom = len(self.length) + 1
        self.length[atom] = length
        self.origin[atom] = atom if origin is None else origin
        return atom

    def fresh(self, shape: Sequence[int]) -> tuple[Atoms, ...]:
        return tuple(() if length == 1 else (self.new(length),) for length in shape)

    def follow(self, op: Op) -> None:
        for note in op.inputs:
            if note.id not in self.of:
                self.of[note.id] = self.fresh(note.shape)
                if not note.parameter:
                    self.inputs.append(note)
            if note.parameter:
                self._parameters.add(note.id)
        for note in op.outputs:
            axes = self._axes(op, note)
            # An operation that this module misreads must not mislead the rules: lengths have to agree.
            if axes is None or tuple(prod(self.length[a] for a in atoms) for atoms in axes) != note.shape:
                axes = self.fresh(note.shape)
            self.of[note.id] = axes
            if op.name in _DRAWN:
                self.inputs.append(note)
        if op.outputs and op.inputs and all(note.id in self._parameters for note in op.inputs):
            self._parameters.update(note.id for note in op.outputs)

    def _axes(self, op: Op, out: TensorNote) -> tuple[Atoms, ...] | None:
        if not op.inputs:
            return None
        name, first = op.name, list(self.of[op.inputs[0].id])
        count = len(first)
        if name in _VIEWS:
            return self.viewed(first, out.shape)
        if name == "t":
            return tuple(reversed(first))
        if name == "transpose":
            one, other = _axis(op, "dim0", count), _axis(op, "dim1", count)
            if one is None or other is None:
                return None
            first[one], first[other] = first[other], first[one]
            return tuple(first)
        if name == "permute":
            dims = op.arguments.get("dims")
            return tuple(first[dim] for dim in dims) if isinstance(dims, tuple) else None
        if name == "unsqueeze":
            axis = _axis(op, "dim", count + 1)
            return None if axis is None else (*first[:axis], (), *first[axis:])
        if name == "squeeze":
            return self._squeezed(op, first, out)
        if name in ("select", "unbind"):
            axis = _axis(op, "dim", count, 0)
            return None if axis is None else (*first[:axis], *first[axis + 1 :])
        if name in ("mm", "addmm"):
            return (self.of[op.inputs[-2].id][0], self._column(op.inputs[-1]))
        if name in ("bmm", "baddbmm"):
            batch, rows, _ = self.of[op.inputs[-2].id]
            return (batch, rows, self._twins(self.of[op.inputs[-1].id][2], rows))
        if name == "convolution":
            return (first[0], self._one(out.shape[1]), *self._resized(first[2:], out.shape[2:]))
        if name == "embedding" and len(op.inputs) > 1:
            return (*self.of[op.inputs[1].id], self._one(out.shape[-1]))
        if name == "stack":
            axis = _axis(op, "dim", count + 1, 0)
            return None if axis is None else (*first[:axis], self._one(out.shape[axis]), *first[axis:])
        if name == "cat":
            axis = _axis(op, "dim", count, 0)
            return (
                None
                if axis is None
                else tuple(
                    self._one(out.shape[i]) if i == axis else self._best(op, i, out.shape[i]) for i in range(count)
                )
            )
        if name in (
            "mean",
            "sum",
            "amax",
            "amin",
            "logsumexp",
            "linalg_vector_norm",
            "max",
            "min",
            "argmax",
            "var",
            "std",
        ):
            return self._reduced(op, first, out)
        if name == "mkldnn_rnn_layer":
            return (*first[: len(out.shape) - 1], self._one(out.shape[-1])) if len(out.shape) == count else None
        if name.startswith("_scaled_dot_product") and len(op.inputs) > 2 and len(out.shape) == 4:
            return (*first[:3], self.of[op.inputs[2].id][3])
        if len(out.shape) == count and (name == "slice" or "pool" in name or "upsample" in name or "pad" in name):
            return tuple(self._resized(first, out.shape))
        return self._broadcast(op, out)

    def viewed(self, axes: Sequence[Atoms], shape: Sequence[int]) -> tuple[Atoms, ...] | None:
        """Row-major: atoms are joined, and split where a boundary falls into one; None where none fits."""
        left = [atom for atoms in axes for atom in atoms]
        found: list[Atoms] = []
        for wanted in shape:
            taken: list[int] = []
            while wanted > 1:
                if not left:
                    return None
                atom = left.pop(0)
                length = self.length[atom]
                if wanted % length == 0:
                    taken.append(atom)
                    wanted //= length
                elif length % wanted == 0:
                    head, tail = self._parts(atom, wanted)
                    taken.append(head)
                    left.insert(0, tail)
                    wanted = 1
                else:
                    return None
            found.append(tuple(taken))
        return tuple(found)

    def _parts(self, atom: int, head: int) -> tuple[int, int]:
        """The same split gives the same parts, so that two views of one tensor agree."""
        if (atom, head) not in self._split:
            origin = self.origin[atom]
            self._split[atom, head] = (self.new(head, origin), self.new(self.length[atom] // head, origin))
        return self._split[atom, head]

    def _one(self, length: int) -> Atoms:
        return () if length == 1 else (self.new(length),)

    def _column(self, weight: TensorNote) -> Atoms:
        """A map by a parameter makes a new axis; a product with data keeps that of the data."""
        if weight.id in self._parameters:
            return self._one(weight.shape[-1])
        return self.of[weight.id][-1]

    def _twins(self, atoms: Atoms, others: Atoms) -> Atoms:
        """Queries and keys of one sequence count the same steps, and are two axes of their product."""
        return tuple(self.new(self.length[a], self.origin[a]) if a in others else a for a in atoms)

    def _resized(self, axes: Sequence[Atoms], shape: Sequence[int]) -> list[Atoms]:
        found: list[Atoms] = []
        for atoms, length in zip(axes, shape, strict=False):
            if prod(self.length[atom] for atom in atoms) == length:
                found.append(atoms)
            elif length == 1 or not atoms:
                found.append(self._one(length))
            else:
                found.append((self.new(length, self.origin[atoms[0]] if len(atoms) == 1 else None),))
        return found

    def _squeezed(self, op: Op, axes: list[Atoms], out: TensorNote) -> tuple[Atoms, ...] | None:
        shape = op.inputs[0].shape
        dims = op.arguments.get("dim")
        chosen = range(len(shape)) if dims is None else dims if isinstance(dims, tuple) else (int(dims),)
        gone = {int(dim) % len(shape) for dim in chosen} if shape else set()
        kept = [atoms for i, atoms in enumerate(axes) if not (i in gone and shape[i] == 1)]
        return tuple(kept) if len(kept) == len(out.shape) else None

    def _reduced(self, op: Op, axes: list[Atoms], out: TensorNote) -> tuple[Atoms, ...] | None:
        dims = op.arguments.get("dim")
        if dims is None or isinstance(dims, str | float):
            return None
        gone = {int(dim) % len(axes) for dim in (dims if isinstance(dims, tuple) else (dims,))} if axes else set()
        if len(out.shape) == len(axes):
            return tuple(() if i in gone else atoms for i, atoms in enumerate(axes))
        return tuple(atoms for i, atoms in enumerate(axes) if i not in gone)

    def _best(self, op: Op, axis: int, length: int) -> Atoms:
        for note in op.inputs:
            if note.id not in self._parameters and len(note.shape) > axis and note.shape[axis] == length:
                return self.of[note.id][axis]
        return self._one(length)

    def _broadcast(self, op: Op, out: TensorNote) -> tuple[Atoms, ...]:
        found: list[Atoms] = []
        data = [note for note in op.inputs if note.id not in self._parameters] or list(op.inputs)
        for back in range(len(out.shape), 0, -1):
            length = out.shape[-back]
            fitting = [n for n in data if len(n.shape) >= back and n.shape[-back] == length and length != 1]
            full = [n for n in fitting if len(n.shape) == len(out.shape)]
            found.append(self.of[(full or fitting)[0].id][-back] if fitting else self._one(length))
        return tuple(found)


def _axis(op: Op, name: str, count: int, default: int | None = None) -> int | None:
    value = op.arguments.get(name, default)
    return int(value) % count if isinstance(value, int) and count else None


def _batch(tape: Tape, follower: _Follower, batches: BatchLog | None) -> frozenset[int]:
    """The axes of the inputs that are as long as the targets are many."""
    counts: set[int] = set()
    targets: set[int] = set()
    per_position: set[tuple[int, ...]] = set()
    for op in tape.named(*TARGETED):
        if len(op.inputs) > 1:
            root = _root(tape, op.inputs[1])
            targets.add(root.id)
            compared = op.inputs[1].shape
            # The loss may take a part of the samples, or leave out the first steps.
            per_position |= {tuple(root.shape[:2]), tuple(compared[:2]), (*root.shape[:1], *compared[1:2])}
            if root.shape:
                counts.add(root.shape[0])
    loaders = batches.loaders if batches is not None else ()
    loaded = {loader.batch_size for loader in loaders if loader.used_in_training and loader.batch_size}
    if not counts and batches is not None:
        counts = loaded | {target.shape[0] for target in batches.targets if target.shape}
    found: set[int] = set()
    for note in follower.inputs:
        if note.id in targets or len(note.shape) < 2 or not counts:
            continue
        # With a target at every position of a sequence, the samples may stand on either axis: (time, batch) is common.
        sequence = len(note.shape) == 3 or not note.floating
        ambiguous = sequence and tuple(note.shape[:2]) in per_position
        known = loaded if ambiguous else counts
        fitting = [axis for axis in range(2) if note.shape[axis] in known and note.shape[axis] > 1]
        if len(fitting) == 1 or (fitting and len(note.shape) in (2, 4) and note.floating):
            found.update(follower.origin[atom] for atom in follower.of[note.id][fitting[0]])
    for target in targets:
        axes = follower.of.get(target, ())
        if found and axes:
            found.update(follower.origin[atom] for atom in axes[0])
    return frozenset(found)


def _root(tape: Tape, note: TensorNote) -> TensorNote:
    for _ in range(8):
        producer = tape.producer(note.id)
        if producer is None or producer.name not in _SAME_PLACE or not producer.inputs:
            break
        note = producer.inputs[0]
    return note
