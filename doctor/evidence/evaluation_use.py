"""What evaluations did: operations on the outputs, divisions of what was summed up, samples seen in training before."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.op_tape import Tape, _op
from doctor.evidence.recording import Recording, source, sources
from doctor.probes import probe


@dataclass(frozen=True)
class Window:
    """The operations between an evaluation forward and the next forward; `output` is the tensor id of its result."""

    output: int
    shape: tuple[int, ...]
    tape: Tape
    source: Source | None = None

    def descendants(self) -> frozenset[int]:
        """Ids of the output and of everything computed from it."""
        found = {self.output}
        for op in self.tape.ops:
            if any(note.id in found for note in op.inputs):
                found.update(note.id for note in op.outputs)
        return frozenset(found)


@dataclass(frozen=True)
class Division:
    """A sum over an evaluation that is divided by a count. `kind` is `correct`, `mean`, `loss-sum` or `loss-mean`,
    `counts` is `batches` or `samples`.
    """

    numerator: str
    kind: str
    denominator: str
    counts: str
    batch_size: int = 1
    source: Source | None = None


@dataclass(frozen=True)
class Collapse:
    """An argmax over a whole output of this shape, which is compared with the labels of all its samples."""

    text: str
    shape: tuple[int, ...]
    source: Source | None = None


@dataclass(frozen=True)
class Carried:
    """A `sum`, `list` or `metric` object that grows from one evaluation to the next, and the line that reads it."""

    name: str
    kind: str
    source: Source | None = None


@dataclass(frozen=True)
class EvaluatedRows:
    """The samples of one line of evaluation: how many, how many of them were trained on, how many those are.

    `repeated` is the share of rows that equal an earlier one of their own batch: large in tables of a few coarse columns.
    `whole` when every training step took the same samples (full batch, graphs). `texts` are the user's lines from the
    inside out, `loaders` those from which the latest batches came. `unread` are names of held-out data in the code of these
    lines that nothing reads.
    """

    source: Source | None
    rows: int
    trained: int
    shared: int
    whole: bool = False
    texts: tuple[str, ...] = ()
    lines: tuple[Source, ...] = ()
    loaders: tuple[int, ...] = ()
    repeated: float = 0.0
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationUse(Evidence):
    """All windows, divisions and places. `datasets` are (loader, identity of its data and rows)."""

    windows: tuple[Window, ...] = ()
    divisions: tuple[Division, ...] = ()
    places: tuple[EvaluatedRows, ...] = ()
    datasets: tuple[tuple[int, tuple[int, ...]], ...] = ()
    collapses: tuple[Collapse, ...] = ()
    carried: tuple[Carried, ...] = ()

    def same_data(self, loader: int) -> tuple[int, ...]:
        """Other loaders over the same samples."""
        own = dict(self.datasets).get(loader)
        return tuple(
            other for other, identity in self.datasets if other != loader and own is not None and identity == own
        )


@probe
def evaluation_use(recording: Recording) -> EvaluationUse:
    """Read what evaluations did."""
    if not recording.of("metric-collapse"):
        recording.some("evaluation-rows", "no evaluation forward came after the first step")
    return EvaluationUse(
        windows=tuple(
            Window(
                event["output"],
                tuple(event["shape"]),
                Tape(event["step"], tuple(_op(index, raw) for index, raw in enumerate(event["ops"]))),
                source(event["forward"]),
            )
            for event in recording.of("evaluation-tape")
        ),
        divisions=tuple(
            Division(e["numerator"], e["kind"], e["denominator"], e["counts"], e["batch_size"], source(e["line"]))
            for e in recording.of("metric-division")
        ),
        places=tuple(
            EvaluatedRows(
                source(e["line"]), e["rows"], e["trained"], e["shared"], e["whole"], tuple(e["texts"]),
                tuple(sources(e["lines"])), tuple(e["loaders"]), e.get("repeated", 0.0),
                tuple(e.get("unread", ())),
            )
            for e in recording.of("evaluation-rows")
        ),
        datasets=tuple((event["loader"], tuple(event["identity"])) for event in recording.of("dataset")),
        carried=tuple(Carried(e["name"], e["kind"], source(e["line"])) for e in recording.of("metric-carried")),
        collapses=tuple(
            Collapse(e["text"], tuple(e["shape"]), source(e["line"])) for e in recording.of("metric-collapse")
        ),
    )  # fmt: skip
