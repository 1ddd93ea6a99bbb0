"""One layer where several were meant."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from doctor.evidence.base import Source
from doctor.evidence.call_log import CallLog, ModuleCall
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Location, Measure, Related, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.shapes import SeparateCopies

_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")
_BY_DESIGN = ("Embedding", "PReLU", "Cell", "LSTM", "GRU", "RNN")
_MOVES = ("clone", "view", "_unsafe_view", "expand", "permute", "transpose", "contiguous")
_RECORDS = ("addmm", "mm", "convolution", "native_batch_norm", "native_layer_norm", "native_group_norm", "mul", "bmm")


class SharedLayerLimits(Limits):
    """Thresholds of ARC018."""

    most_calls: int = 64  # more calls than this in one forward are a loop over time


@check(
    "ARC018",
    "shared-layer",
    Severity.WARNING,
    faq="training/architecture/duplicated",
    faults=("shared-layer", "batchnorm-misuse"),
)
def shared_layer(tree: ModuleTree, calls: CallLog, tape: OpTape, limits: SharedLayerLimits) -> Iterator[Finding]:
    """One module does the work of several: it is called at several places of one chain.

    ## What it measures
    The module calls of one taped step. A layer with parameters is reported when its later call works on what its
    earlier call led to, and either the calls stand on different lines of one forward, or the layer is held several times
    by one container (`[layer] * n`). So is a layer that one module holds under two names and that gets the very same input
    under both: it gives the very same output.
    ## Why it hurts
    Every place gets the same weights, and a shared batch norm mixes the statistics of different features. The
    model has fewer parameters than it seems to have.
    ## Example
    ```python
    self.layers = nn.ModuleList([nn.Linear(64, 64)] * 4)
    ```
    ## Use instead
    ```python
    self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
    ```
    ## When it is right
    A loop that calls one layer again and again from one line is recurrence (cells, ALBERT, refinement). Siamese towers
    call one module on different inputs, not in a chain. Encoders applied to what a decoder made, shared embeddings and
    layers without parameters are left alone.
    ## References
    PyTorch forum: "nn.ModuleList([layer] * n) shares parameters".
    """
    shared: list[tuple[ModuleRecord, tuple[ModuleCall, ...], bool]] = []
    for record in tree.modules:
        held = _held_by_one_container(calls, record)
        own = calls.of(record.path, record.root)
        if 2 <= len(own) <= limits.most_calls and _chained(tape.first, tree, calls, record, own, held):
            shared.append((record, own, held))
    if not shared:
        yield from _two_names(tree, calls, tape.first)
        return
    shared = [one for one in shared if not any(_is_below(one[0], other[0]) for other in shared)]
    if not shared:
        return
    norms = [one for one in shared if _is_norm(one[0])]
    record, own, held = next((one for one in shared if one[2]), (norms or shared)[0])
    called = own[1].source
    place = (record.created or called) if held else called
    names = list(dict.fromkeys(one[0].path for one in shared))
    total = sum(len(one[1]) for one in shared)
    what = f"{record.kind} {record.path} is called {len(own)} times in one forward"
    yield Finding(
        message=f"{what}, each time on what its last call led to"
        + (": one container holds the same instance several times" if held else "")
        + (": different features share one set of running statistics" if "BatchNorm" in record.kind else "")
        + (f"; so are {', '.join(names[1:4])}" if len(names) > 1 else ""),
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=record.path or None
        ),
        measured={"calls": Measure(value=total, threshold=len(shared))},
        remedy="make a layer of its own for each place"
        + (": nn.ModuleList(make() for _ in range(n)) in place of [layer] * n" if held else ""),
        treatment=SeparateCopies(modules=tuple(names), root=record.root),
        related=_others(record, own, place),
        demonstrated=f"one set of weights is used at {len(own)} places",
    )


def _two_names(tree: ModuleTree, calls: CallLog, tape: Tape) -> Iterator[Finding]:
    """A layer under two attributes of one module, called twice with one input: two equal results where two were meant."""
    for root, paths in calls.aliases:
        record = tree.module(paths[0], root)
        siblings = [path for path in paths if path.rpartition(".")[0] == paths[0].rpartition(".")[0]]
        own = calls.of(paths[0], root)
        if record is None or not record.parameters or len(siblings) < 2 or siblings[1].rpartition(".")[2].isdigit():
            continue
        if len(own) < 2 or len({call.caller for call in own}) != 1 or calls.in_library(own[0].caller or "", root):
            continue
        uses = _uses(tape, record)
        twice = next((op for op, other in pairwise(uses) if _data(tape, op) & _data(tape, other)), None)
        if twice is None:
            continue
        place = calls.named_again.get((root, paths[0])) or record.created or own[1].source
        names = " and ".join(path.rpartition(".")[2] for path in siblings[:2])
        yield Finding(
            message=f"{record.kind} {paths[0]} is held as {names} and gets the same input as both: both results are equal",
            location=Location(
                path=place.path if place else None, line=place.line if place else None, module=record.path
            ),
            measured={"calls": Measure(value=len(own), threshold=1)},
            remedy="make a layer of its own for each name",
            related=_others(record, own, place),
            demonstrated="one set of weights on one input, twice",
        )
        return


def _data(tape: Tape, op: Op) -> set[int]:
    """The inputs that are neither parameters nor views of one, before they were copied or given another shape."""
    found = set()
    for note in op.inputs:
        producer = tape.producer(note.id)
        if note.parameter or (producer is not None and any(n.parameter for n in producer.inputs[:1])):
            continue
        while producer is not None and producer.name in _MOVES and producer.inputs[0].id != note.id:
            note = producer.inputs[0]
            producer = tape.producer(note.id)
        found.add(note.id)
    return found


def _others(record: ModuleRecord, own: tuple[ModuleCall, ...], place: Source | None) -> tuple[Related, ...]:
    lines = [record.created, *dict.fromkeys(call.source for call in own)]
    return tuple(
        Related(
            location=Location(path=line.path, line=line.line, module=record.path or None),
            message="the layer is made here" if line is record.created else "the layer is called here",
        )
        for line in lines
        if line is not None and line != place
    )[:4]


def _is_below(one: ModuleRecord, other: ModuleRecord) -> bool:
    return one.root == other.root and one.path.startswith(f"{other.path}.")


def _is_norm(record: ModuleRecord) -> bool:
    return any(name in record.kind for name in _NORMS)


def _held_by_one_container(calls: CallLog, record: ModuleRecord) -> bool:
    """Whether one list or Sequential holds the module under several names."""
    for root, paths in calls.aliases:
        if root == record.root and record.path in paths:
            holders = [path.rpartition(".")[0] for path in paths]
            return any(
                holders.count(holder) > 1 and path.rpartition(".")[2].isdigit()
                for path, holder in zip(paths, holders, strict=True)
            )
    return False


def _chained(
    tape: Tape, tree: ModuleTree, calls: CallLog, record: ModuleRecord, own: tuple[ModuleCall, ...], held: bool
) -> bool:
    inner = [m for m in (record, *tree.children(record.path, record.root)) if m.parameters]
    if not inner or not record.path or any(name in record.kind for name in _BY_DESIGN):
        return False
    if calls.in_library(record.path.rpartition(".")[0], record.root):
        return False
    callers = {call.caller for call in own}
    if len(callers) != 1:
        return False
    (caller,) = callers
    if caller is None or _calls_of(calls, caller, record.root) > 1:
        return False  # the caller itself is shared, or called for several inputs: its own place in the chain tells
    if not held:
        lines = {call.source for call in own}
        mapping = [m for m in inner if not _is_norm(m)]
        if len(lines) < len(own) or len(mapping) > 1:
            return False
    return _works_on_its_own_result(tape, inner[0])


def _calls_of(calls: CallLog, path: str, root: int) -> int:
    return len(calls.of(path, root))


def _works_on_its_own_result(tape: Tape, leaf: ModuleRecord) -> bool:
    uses = _uses(tape, leaf)
    for one, other in pairwise(uses):
        if not any(above.index == one.index for above in tape.upstream(other)):
            return False
    return len(uses) > 1


def _uses(tape: Tape, leaf: ModuleRecord) -> list[Op]:
    """The operations by which a layer uses its weights."""
    return [
        op
        for op in tape.forward
        if op.name in _RECORDS and op.module == leaf.path and (op.root or 0) == leaf.root and _is_weighted(tape, op)
    ]


def _is_weighted(tape: Tape, op: Op) -> bool:
    for note in op.inputs:
        producer = tape.producer(note.id)
        if note.parameter or (producer is not None and any(n.parameter for n in producer.inputs[:1])):
            return True
    return False
