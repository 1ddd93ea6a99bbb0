"""Views that deal the elements of one axis out to others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from math import prod
from typing import NamedTuple

from doctor.evidence.axes import TensorAxes
from doctor.evidence.call_log import CallLog
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import Place
from doctor.trials.treatments.shapes import PermuteInsteadOfView

_VIEWS = ("view", "_unsafe_view", "reshape", "_reshape_alias")
_KEEPS = frozenset({"slice", "clone", "view", "_unsafe_view", "alias", "select", "as_strided", "squeeze", "unsqueeze"})


class ScrambledReshapeLimits(Limits):
    """Thresholds of ARC012."""

    most_parts: int = 6  # axes of a view that are tried in other orders; more have too many orders to mean anything


class Permutation(NamedTuple):
    """How a permutation gives the shape: the parts of every input axis, and the order of all parts."""

    splits: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]


@check("ARC012", "scrambled-reshape", Severity.WARNING, faq="training/architecture/incorrect")
def scrambled_reshape(
    tape: OpTape, axes: TensorAxes, calls: CallLog | None, limits: ScrambledReshapeLimits
) -> Iterator[Finding]:
    """A view gives a tensor the shape that a permutation of its axes has, without moving the elements.

    ## What it measures
    Every view of the taped step, over axes that are followed from where they came into being. It is reported when its
    new axes join *pieces* of different old ones, while some other order of the whole old axes (with at most one of them
    split, as into heads) gives exactly the new shape. Splitting an axis, or joining neighbours, is what views are for.
    The trial permutes instead.
    ## Why it hurts
    Values of different positions, channels or samples stand side by side as if they belonged together. Nothing crashes.
    ## Example
    ```python
    tokens = features.view(batch, height * width, channels)
    ```
    ## Use instead
    ```python
    tokens = features.flatten(2).transpose(1, 2)
    ```
    ## When it is right
    The shift of relative positions (padding, a skewed view, a slice) is a known trick and silent, as are frames stacked
    in time, channel shuffles, windows, and what libraries do inside.
    ## References
    `torch.Tensor.view`: "the returned tensor shares the same data".
    """
    told: set[object] = set()
    for op in tape.first.named(*_VIEWS):
        if op.source is None or op.source in told or not op.inputs or not op.outputs or not op.grad_enabled:
            continue
        if (calls is not None and calls.in_library(op.module, op.root)) or op.module_kind == "MultiheadAttention":
            continue
        found = _misread(op, axes, limits)
        if found is None or _of_weights(tape.first, op) or _skewed(tape.first, axes, op, limits):
            continue
        told.add(op.source)
        before, after = op.inputs[0].shape, op.outputs[0].shape
        yield Finding(
            message=f"a view from {before} to {after} mixes the elements of different axes; "
            "this shape needs its axes permuted",
            location=Location(path=op.source.path, line=op.source.line, module=op.module or None),
            measured={"scrambled_elements": Measure(value=prod(after), threshold=0)},
            remedy=_remedy(found),
            treatment=PermuteInsteadOfView(
                place=Place(path=op.source.path, line=op.source.line), splits=found.splits, order=found.order
            ),
            demonstrated="the new axes are made of pieces of several old ones",
        )


def _remedy(found: Permutation) -> str:
    if all(len(parts) == 1 for parts in found.splits):
        return f"x.permute{found.order}.reshape(...) in place of the view"
    parts = [str(length) for length in (length for parts in found.splits for length in parts)]
    return f"x.view({', '.join(parts)}).permute{found.order} in place of the view"


def _misread(op: Op, axes: TensorAxes, limits: ScrambledReshapeLimits) -> Permutation | None:
    atoms = axes.of.get(op.inputs[0].id)
    if atoms is None:
        return None
    parts = [[axes.length[atom] for atom in axis] for axis in atoms]
    return permutation_of(parts, op.outputs[0].shape, limits.most_parts)


def permutation_of(parts: Sequence[Sequence[int]], shape: Sequence[int], most: int = 6) -> Permutation | None:
    """The permutation that a view from axes made of these parts to this shape stands for, if it scrambles."""
    flat = [length for axis in parts for length in axis]
    wanted = [length for length in shape if length > 1]
    if prod(flat) != prod(wanted) or len(flat) > most or _clean_merges(flat, wanted):
        return None
    order = _reordered(flat, wanted)
    if order is not None:
        return _described(parts, order)
    if _sound_pieces(flat, wanted):
        return None
    found: list[tuple[int, Permutation]] = []
    for position, length in enumerate(flat):
        for head in {w for w in wanted if length % w == 0} | {length // w for w in wanted if length % w == 0}:
            split = [*flat[:position], head, length // head, *flat[position + 1 :]]
            order = _reordered(split, wanted) if head not in (1, length) and len(split) <= most else None
            if order is not None:
                found.append((_disorder(order), _described(_split(parts, position, head), order)))
    return min(found, default=(0, None))[1]


def _groups(flat: Sequence[int], wanted: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Both shapes cut into the smallest runs that hold equally many elements."""
    left, right = list(flat), list(wanted)
    while left and right:
        one, two = [left.pop(0)], [right.pop(0)]
        while prod(one) != prod(two):
            if prod(one) < prod(two):
                one.append(left.pop(0))
            else:
                two.append(right.pop(0))
        yield one, two


def _clean_merges(flat: Sequence[int], wanted: Sequence[int]) -> bool:
    return all(len(one) == 1 or len(two) == 1 for one, two in _groups(flat, wanted))


def _sound_pieces(flat: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether the plain reading joins no two pieces: each split axis keeps all pieces but one to themselves, and no new
    axis holds more than one piece beside whole ones (frames stacked in time, heads moved into the batch).
    """
    edges_in, edges_out = _edges(flat), _edges(wanted)
    edges = sorted({*edges_in, *edges_out})
    if any(two % one for one, two in pairwise(edges)):
        return False
    pieces = list(zip([1, *edges[:-1]], edges, strict=True))

    def inside(bounds: list[int]) -> list[list[tuple[int, int]]]:
        return [
            [p for p in pieces if low <= p[0] and p[1] <= high] for low, high in zip([1, *bounds], bounds, strict=False)
        ]

    partial = {piece for axis in inside(edges_in) if len(axis) > 1 for piece in axis}
    merged = {piece for axis in inside(edges_out) if len(axis) > 1 for piece in axis}
    if any(len(partial & set(axis)) > 1 for axis in inside(edges_out) if len(axis) > 1):
        return False
    return all(len(merged & set(axis)) <= 1 for axis in inside(edges_in) if len(axis) > 1)


def _edges(lengths: Sequence[int]) -> list[int]:
    found = [1]
    for length in lengths:
        found.append(found[-1] * length)
    return found[1:]


def _reordered(flat: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...] | None:
    """An order of the parts, not the present one, in which neighbours joined give the shape; the mildest one."""
    fitting = [
        order
        for order in permutations(range(len(flat)))
        if _joins([flat[i] for i in order], wanted) and [flat[i] for i in order] != list(flat)
    ]
    return min(fitting, key=_disorder, default=None)


def _disorder(order: Sequence[int]) -> int:
    return sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))


def _joins(lengths: Sequence[int], wanted: Sequence[int]) -> bool:
    edges = _edges(lengths)
    return set(_edges(wanted)) <= set(edges)


def _split(parts: Sequence[Sequence[int]], position: int, head: int) -> list[list[int]]:
    found, seen = [], 0
    for axis in parts:
        new: list[int] = []
        for length in axis:
            new += [head, length // head] if seen == position else [length]
            seen += 1
        found.append(new)
    return found


def _described(parts: Sequence[Sequence[int]], order: tuple[int, ...]) -> Permutation:
    """With the axes of length 1, which have no part."""
    splits = tuple(tuple(axis) or (1,) for axis in parts)
    places, number = [], 0
    ones = []
    for axis in parts:
        for _ in axis:
            places.append(number)
            number += 1
        if not axis:
            ones.append(number)
            number += 1
    return Permutation(splits, (*(places[i] for i in order), *ones))


def _of_weights(tape: Tape, op: Op) -> bool:
    """Whether what is viewed is a parameter."""
    note = op.inputs[0]
    for _ in range(4):
        if note.parameter:
            return True
        producer = tape.producer(note.id)
        if producer is None or len(producer.inputs) != 1:
            return False
        note = producer.inputs[0]
    return False


def _skewed(tape: Tape, axes: TensorAxes, op: Op, limits: ScrambledReshapeLimits) -> bool:
    """Whether this is the shift of relative positions: padded before, or sliced and viewed back behind."""
    note = op.inputs[0]
    for _ in range(8):
        producer = tape.producer(note.id)
        if producer is None:
            break
        if "pad" in producer.name or (producer.name == "cat" and any(1 in n.shape for n in producer.inputs)):
            return True
        if producer.name not in ("view", "clone", "_unsafe_view", "unsqueeze", "copy", "slice", "select"):
            break
        note = producer.inputs[0]
    queue, seen = [(op.outputs[0].id, False)], set[int]()
    while queue:
        tensor, sliced = queue.pop()
        for consumer in tape.consumers(tensor):
            if consumer.index in seen or consumer.name not in _KEEPS:
                continue
            seen.add(consumer.index)
            if sliced and consumer.name in _VIEWS and len(consumer.outputs[0].shape) == len(op.inputs[0].shape):
                before, after = op.inputs[0].shape, consumer.outputs[0].shape
                if sum(one != two for one, two in zip(before, after, strict=True)) <= 1:
                    return True
            queue += [(note.id, sliced or consumer.name == "slice") for note in consumer.outputs]
    return False
