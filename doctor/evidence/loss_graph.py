"""The autograd graph of the loss, from the tensor on which backward was called to the leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence, Source
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.evidence.recording import Recording, source
from doctor.probes import probe

# Their derivatives are computed from their results.
_KEEPING_RESULTS = frozenset(
    {
        "relu", "tanh", "sigmoid", "_softmax", "_safe_softmax", "_log_softmax", "exp", "sqrt", "rsqrt", "elu", "softplus",
        "leaky_relu", "hardtanh", "reciprocal",
    }
)  # fmt: skip


@dataclass(frozen=True)
class BackwardRecord:
    """One sampled call of backward.

    `reached` are the names of the parameters in the graph, `leaf_loss` is true when the loss itself is a leaf (it has
    no history: `torch.tensor(...)`, `.requires_grad_()`), `nodes` are the names of the graph's nodes from the loss
    down, breadth first, at most 200.
    """

    step: int
    source: Source | None
    loss_shape: tuple[int, ...]
    loss: float | None
    leaf_loss: bool
    reached: tuple[str, ...]
    trainable: int
    nodes: tuple[str, ...] = ()
    retain_graph: bool = False


@dataclass(frozen=True)
class GraphCut:
    """A place where data flow goes on and gradient flow ends: a non-differentiable op, `detach`, `.item()`, numpy.

    `operation` is what cut the graph, `lost` the trainable parameters above it that the loss therefore misses.
    """

    operation: str
    source: Source | None
    module: str = ""
    lost: tuple[str, ...] = ()
    step: int = 0


@dataclass(frozen=True)
class LossGraph(Evidence):
    """The sampled backwards, and the cuts found on the tape between the parameters and the loss.

    `moved` are the parameters that changed over the run: a backward that was not sampled reached them (the generator's
    behind many steps of the critic, say).
    """

    backwards: tuple[BackwardRecord, ...] = ()
    cuts: tuple[GraphCut, ...] = ()
    trainable: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    def never_reached(self) -> tuple[str, ...]:
        """Trainable parameters that no sampled backward reached and that did not move either."""
        reached = {name for record in self.backwards for name in record.reached} | set(self.moved)
        return tuple(name for name in self.trainable if name not in reached)


@probe
def loss_graph(recording: Recording, tape: OpTape | None) -> LossGraph:
    """Read the walked backwards, and look on the tape for where the gradient's way ends."""
    facts = recording.of("parameter")
    trainable = tuple(event["name"] for event in facts if event["requires_grad"] and not event["name"].startswith("<"))
    records = tuple(
        BackwardRecord(
            step=event["step"],
            source=source(event["line"]),
            loss_shape=tuple(event["loss_shape"]),
            loss=event["loss"],
            leaf_loss=event["leaf"],
            reached=tuple(event["reached"]),
            trainable=len(trainable),
            nodes=tuple(event["nodes"]),
            retain_graph=event["retain"],
        )
        for event in recording.of("graph")
    )
    crash = recording.end.get("crash") or {}
    if not records and "does not require grad" not in crash.get("message", ""):
        raise Unavailable("the program made no backward")
    moved = tuple(event["name"] for event in facts if event.get("moved"))
    reached = frozenset(name for record in records for name in record.reached) | frozenset(moved)
    cuts = tuple(cut for tape in (tape.tapes if tape else ()) for cut in find_cuts(tape, reached))
    return LossGraph(records, cuts, trainable, moved)


def find_cuts(tape: Tape, reached: frozenset[str] = frozenset()) -> Iterator[GraphCut]:
    """Operations that used a tensor which needs a gradient and whose result, used later on, needs none.

    Only cuts that lost a trainable parameter which no sampled backward reached are told.
    """
    flows: dict[int, frozenset[str]] = {}
    needs: dict[int, bool] = {}
    for op in tape.forward:
        for note in op.inputs:
            if note.parameter and note.requires_grad:
                flows[note.id] = frozenset({note.parameter})
            if note.requires_grad is not None and note.floating:
                needs.setdefault(note.id, note.requires_grad)
        above = _flowing(flows, op)
        for note in op.outputs:
            flows[note.id] = above | flows.get(note.id, frozenset())
    told: set[tuple[str, Source | None]] = set()
    for op in tape.forward:
        above = _flowing(flows, op) - reached
        if not above or not any(note.requires_grad for note in op.inputs) or _is_kept(op, tape):
            continue
        if op.name.endswith("_like") or op.name.startswith("new_"):
            continue  # takes the shape, not the values
        cut = op.name in ("_local_scalar_dense", "detach") or (
            bool(op.outputs) and all(needs.get(note.id, False) is False for note in op.outputs) and _is_used(op, tape)
        )
        # Teachers and target networks run without gradients on purpose; where nothing at all is reached, it is the cut.
        enabled = op.grad_enabled or not any(not name.startswith("<") for name in reached)
        if cut and enabled and (op.name, op.source) not in told:
            told.add((op.name, op.source))
            yield GraphCut(op.name, op.source, op.module, tuple(sorted(above)), tape.step)


def _flowing(flows: dict[int, frozenset[str]], op: Op) -> frozenset[str]:
    """Parameters whose gradient the inputs of an operation could carry (what came without gradients carries none)."""
    return frozenset().union(*(flows.get(note.id, frozenset()) for note in op.inputs if note.requires_grad))


def _is_kept(op: Op, tape: Tape) -> bool:
    """Whether this is the copy of its own result that an operation keeps for its derivative: nobody reads it as such."""
    if op.name != "detach" or not op.inputs:
        return False
    number = op.inputs[0].id
    made = tape.producer(number)
    if made is None or made.name not in _KEEPING_RESULTS or made.index != op.index - 1:
        return False
    later = [consumer for consumer in tape.consumers(number) if consumer.index > op.index]
    return all(note.requires_grad for consumer in later for note in consumer.inputs if note.id == number) and not any(
        consumer.name == "detach" for consumer in later
    )


def _is_used(op: Op, tape: Tape) -> bool:
    return any(tape.consumers(note.id) for note in op.outputs)
