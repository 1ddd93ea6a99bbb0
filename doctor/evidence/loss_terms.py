"""What the loss is a sum of, read from the tape: its terms with their signs and factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from doctor.evidence.base import Evidence, Source
from doctor.evidence.loss_leftovers import SAME, LooseSample, UnusedTerm, loose_samples, maker, unused_terms
from doctor.evidence.op_tape import Op, OpTape, Tape, TensorNote
from doctor.evidence.recording import Recording, source
from doctor.probes import probe

_REDUCTIONS = frozenset({"mean", "sum"})
_CRITERIA = {
    "nll_loss_forward": "cross-entropy", "nll_loss2d_forward": "cross-entropy", "mse_loss": "squared error",
    "smooth_l1_loss": "smooth L1 error", "huber_loss": "Huber error", "binary_cross_entropy": "binary cross-entropy",
    "binary_cross_entropy_with_logits": "binary cross-entropy", "_ctc_loss": "CTC loss",
}  # fmt: skip
_RANDOM = frozenset({"randn", "randn_like", "normal", "normal_functional", "rand", "rand_like", "uniform", "bernoulli",
                     "native_dropout", "randperm", "randint", "multinomial", "exponential"})  # fmt: skip
_MOVES = frozenset({"t", "transpose", "permute"})
_DEPTH = 60
_MOST_STEPS = 200  # a loss with more summands is not taken apart further


@dataclass(frozen=True)
class Term:
    """One summand of the loss.

    `sign` is +1 or -1, 0 where it is multiplied by a tensor of unknown sign. `kind` is the criterion (`cross-entropy`,
    `squared error`), `square` for squares of what the model gives, `log-likelihood` for picked log-probabilities, else
    the name of the operation. `scale` is the product of the plain factors, `elements` how many elements it was reduced
    over, `flipped` the line on which its sign turns for the first time, seen from the loss.
    """

    kind: str
    source: Source | None
    sign: int = 1
    scale: float = 1.0
    reduction: str = ""
    elements: int = 1
    flipped: Source | None = None


@dataclass(frozen=True)
class Repeated:
    """A summand that the loss holds `times` times, computed from the same tensors by the same operations."""

    kind: str
    source: Source | None
    again: Source | None
    times: int = 2


@dataclass(frozen=True)
class LossTerms(Evidence):
    """The summands of the taped loss; `source` is where the last sum (or the only term) was computed."""

    terms: tuple[Term, ...] = ()
    source: Source | None = None
    unused: tuple[UnusedTerm, ...] = ()
    loose_samples: tuple[LooseSample, ...] = ()
    repeated: tuple[Repeated, ...] = ()
    divided_by: tuple[float, ...] = ()
    divided_source: Source | None = None


@probe
def loss_terms(recording: Recording, tape: OpTape) -> LossTerms:
    """Take the loss of the first complete tape apart."""
    found = terms_of(tape.first)
    by_library = {source(event["line"]) for event in recording.of("backward")}
    if found.source in by_library and found.terms and found.terms[0].source not in by_library:
        return replace(found, source=found.terms[0].source)  # a library scales it where it calls backward
    return found


def terms_of(tape: Tape) -> LossTerms:
    """The summands of one taped step."""
    walk = _Walk(tape)
    if tape.loss is not None:
        walk.descend(tape.loss, 1, 1.0)
    top = maker(tape, tape.loss) if tape.loss is not None else None
    return LossTerms(
        terms=tuple(walk.terms),
        source=top.source if top else None,
        unused=tuple(unused_terms(tape)),
        loose_samples=tuple(loose_samples(tape)),
        repeated=tuple(walk.repeated(tape.loss)) if tape.loss is not None else (),
        divided_by=tuple(walk.divisors),
        divided_source=walk.divided_source,
    )


class _Walk:
    """Descends from the loss through sums, signs and reductions."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.terms: list[Term] = []
        self.divisors: list[float] = []
        self.divided_source: Source | None = None
        self._numbers: dict[int, object] = {}
        self._steps = 0
        self._flip: Source | None = None
        self._last: Op | None = None

    def descend(self, tensor: int, sign: int, scale: float, reduction: str = "", elements: int = 1) -> None:
        """Add the terms below this tensor."""
        op = maker(self.tape, tensor)
        self._steps += 1
        if op is None or self._steps > _MOST_STEPS:
            return
        before = self._flip
        if sign < 0 and before is None:
            self._flip = self._last.source if self._last else op.source
        self._last, last = op, self._last
        self._follow(op, sign, scale, reduction, elements)
        self._flip, self._last = before, last

    def _follow(self, op: Op, sign: int, scale: float, reduction: str, elements: int) -> None:
        name = op.name
        if name in SAME and op.inputs:
            self.descend(op.inputs[0].id, sign, scale, reduction, elements)
        elif name == "neg":
            self.descend(op.inputs[0].id, -sign, scale, reduction, elements)
        elif name in ("add", "sub", "rsub"):
            self._sum(op, sign, scale, reduction, elements)
        elif name in ("mul", "div") and (factor := _factor(op)) is not None:
            if 0 < factor < 1 and not reduction:
                self.divisors.append(1 / factor)
                self.divided_source = self.divided_source or op.source
            way = sign if factor > 0 else -sign
            self.descend(op.inputs[0].id, way, scale * abs(factor), reduction, elements)
        elif name in ("mul", "div") and len(op.inputs) == 2:
            self._product(op, sign, scale, reduction, elements)
        elif name in ("stack", "cat"):
            for note in op.inputs:
                self.descend(note.id, sign, scale, reduction, elements)
        elif name in _REDUCTIONS and op.inputs:
            inner = maker(self.tape, op.inputs[0].id)
            together = inner is not None and inner.name == "stack"
            kept = max(1, _count(op.outputs[0])) if op.outputs else 1
            if not reduction and not together:
                reduction, elements = name, max(1, _count(op.inputs[0]) // kept)
            self.descend(op.inputs[0].id, sign, scale, reduction, elements)
        else:
            self._leaf(op, sign, scale, reduction, elements)

    def _sum(self, op: Op, sign: int, scale: float, reduction: str, elements: int) -> None:
        signs = {"add": (1, 1), "sub": (1, -1), "rsub": (-1, 1)}[op.name]
        alpha = op.arguments.get("alpha", 1)
        for position, note in enumerate(op.inputs[:2]):
            own = sign * (signs[position] if len(op.inputs) > 1 or op.name != "rsub" else -1)
            factor = float(alpha) if position == 1 and isinstance(alpha, int | float) else 1.0
            self.descend(note.id, own if factor > 0 else -own, scale * abs(factor), reduction, elements)

    def _product(self, op: Op, sign: int, scale: float, reduction: str, elements: int) -> None:
        one, two = op.inputs[:2]
        if op.name == "mul" and one.id == two.id and one.requires_grad:
            self._add("square", op, sign, scale, reduction, elements)
        elif op.name == "mul" and two.requires_grad and not one.requires_grad:
            self._weighted(two, one, sign, scale, reduction, elements)
        elif one.requires_grad and not two.requires_grad:
            self._weighted(one, two, sign, scale, reduction, elements)
        else:
            self._leaf(op, 0, scale, reduction, elements)

    def _weighted(self, term: TensorNote, weight: TensorNote, sign: int, scale: float, reduction: str, n: int) -> None:
        made_by = maker(self.tape, weight.id)
        positive = made_by is not None and made_by.name in (
            "scatter",
            "one_hot",
            "eq",
            "ne",
            "gt",
            "lt",
            "ge",
            "le",
            "_softmax",
        )
        self.descend(term.id, sign if positive else 0, scale, reduction, n)

    def _leaf(self, op: Op, sign: int, scale: float, reduction: str, elements: int) -> None:
        if not any(note.requires_grad for note in op.inputs):
            return
        name = op.name
        if name in _CRITERIA:
            how = op.arguments.get("reduction")
            if name == "_ctc_loss":
                how = 0
            elif how is None:
                how = 1  # the default, which the dispatcher leaves out
            own = {0: "", 1: "mean", 2: "sum"}.get(int(how) if isinstance(how, int) else 0, "")
            count = _count(op.inputs[1]) if own and len(op.inputs) > 1 else elements
            self._add(_CRITERIA[name], op, sign, scale, own or reduction, count)
        elif name in ("pow", "square"):
            even = name == "square" or op.arguments.get("exponent") in (2, 2.0)
            self._add("square" if even else name, op, sign, scale, reduction, elements)
        elif (
            name in ("gather", "index", "select", "index_select", "diagonal", "masked_select")
            and self._is_log(op.inputs[0])
        ) or name in (
            "_log_softmax",
            "log_sigmoid_forward",
        ):
            self._add("log-likelihood", op, sign, scale, reduction, elements)
        else:
            self._add(name, op, sign, scale, reduction, elements)

    def _is_log(self, note: TensorNote) -> bool:
        op = maker(self.tape, note.id)
        for _ in range(6):
            if op is None:
                return False
            if op.name in ("_log_softmax", "log"):
                return True
            if op.name not in SAME or not op.inputs:
                return False
            op = maker(self.tape, op.inputs[0].id)
        return False

    def _add(self, kind: str, op: Op, sign: int, scale: float, reduction: str, elements: int) -> None:
        self.terms.append(Term(kind, op.source, sign, scale, reduction, elements, self._flip))

    def repeated(self, loss: int) -> Iterator[Repeated]:
        """Scalar summands that come in twice."""
        found: dict[object, list[tuple[Op, int]]] = {}
        queue = [(loss, 1)]
        while queue and len(queue) < 500:
            tensor, sign = queue.pop(0)
            op = maker(self.tape, tensor)
            if op is None or not op.inputs or not op.outputs:
                continue
            scalar = _count(op.outputs[0]) == 1
            stacked = maker(self.tape, op.inputs[0].id) if op.name in _REDUCTIONS else None
            if stacked is not None and stacked.name == "stack" and all(_count(note) == 1 for note in stacked.inputs):
                queue += [(note.id, sign) for note in stacked.inputs]
            elif scalar and op.name in ("add", "sub", "rsub"):
                signs = {"add": (1, 1), "sub": (1, -1), "rsub": (-1, 1)}[op.name]
                queue += [(note.id, sign * own) for note, own in zip(op.inputs, signs, strict=False)]
            elif scalar and (op.name in SAME or op.name == "neg" or (op.name in ("mul", "div") and _factor(op))):
                negative = op.name == "neg" or (op.name in ("mul", "div") and (_factor(op) or 1) < 0)
                queue.append((op.inputs[0].id, -sign if negative else sign))
            elif any(note.requires_grad for note in op.inputs):
                found.setdefault((self.number(tensor), sign), []).append((op, sign))
        for places in found.values():
            if len(places) > 1:
                op = places[-1][0]
                kind = _CRITERIA.get(op.name, op.name)
                yield Repeated(kind, places[0][0].source, op.source, len(places))

    def number(self, tensor: int, depth: int = 0) -> object:
        """Equal for tensors computed by the same operations from the same tensors."""
        known = self._numbers.get(tensor)
        if known is not None:
            return known
        op = maker(self.tape, tensor)
        if op is None or op.name in _RANDOM or depth > _DEPTH:
            found: object = tensor
        elif op.name in SAME and op.inputs and _count(op.inputs[0]) == _count(op.outputs[0]) and op.name not in _MOVES:
            found = self.number(op.inputs[0].id, depth + 1)
        else:
            place = next(index for index, note in enumerate(op.outputs) if note.id == tensor)
            plain = tuple(sorted((key, str(value)) for key, value in op.arguments.items()))
            inputs = tuple(self.number(note.id, depth + 1) for note in op.inputs)
            found = hash((op.name, plain, inputs, place))
        self._numbers[tensor] = found
        return found


def _factor(op: Op) -> float | None:
    """The plain number by which an operation multiplies its only tensor (that of a division is the inverse)."""
    other = op.arguments.get("other")
    if len(op.inputs) != 1 or not isinstance(other, int | float) or isinstance(other, bool) or not other:
        return None
    return float(other) if op.name == "mul" else 1.0 / float(other)


def _count(note: TensorNote) -> int:
    count = 1
    for length in note.shape:
        count *= length
    return count
