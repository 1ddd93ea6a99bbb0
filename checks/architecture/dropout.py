"""More dropout than the signal survives."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.call_log import CallLog
from doctor.evidence.dropout_log import DropoutLog, DropoutPlace
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import Place
from doctor.trials.treatments.shapes import ScaleDropout

_LOSSES = ("_log_softmax", "mse_loss", "binary_cross_entropy_with_logits", "smooth_l1_loss", "huber_loss")
_THROUGH = frozenset(
    {"view", "_unsafe_view", "squeeze", "select", "transpose", "permute", "slice", "_to_copy", "sigmoid"}
)


class ExcessDropoutLimits(Limits):
    """Thresholds of ARC014."""

    high: float = (
        0.7  # the noise of one unit is then 1.5 times its value; usual are 0.1 to 0.5, at most 0.65 (AWD-LSTM)
    )
    extreme: float = 0.85  # one unit in seven is left: reported whatever the width
    signal_to_noise: float = 1.0  # of the output over masks: below, masks move it more than samples do
    few_features: int = 16  # inputs of so few features lose whole causes
    input_share: float = 0.4


@check("ARC014", "excess-dropout", Severity.WARNING, faq="training/architecture/incorrect")
def excess_dropout(
    log: DropoutLog, tape: OpTape | None, tree: ModuleTree | None, calls: CallLog | None, limits: ExcessDropoutLimits
) -> Iterator[Finding]:
    """Dropout removes more than training can average out, or removes what nothing can make up for.

    ## What it measures
    The probability of every dropout that runs in training, and the signal-to-noise ratio of the model's output on a
    training batch: the variance between samples over the variance between masks. Reported is p of at least `high` where
    that ratio is below 1, p of at least `extreme` anywhere, dropout on the outputs themselves, and on inputs of few
    features. The trial divides p by four.
    ## Why it hurts
    Inverted dropout multiplies what is left by 1 / (1 - p): at p = 0.9 each unit is ten times its value or nothing.
    ## Example
    ```python
    h = F.dropout(F.relu(self.fc1(x)), p=0.9, training=self.training)
    ```
    ## Use instead
    ```python
    h = F.dropout(F.relu(self.fc1(x)), p=0.2, training=self.training)
    ```
    ## When it is right
    Wide layers stand p = 0.5 and more, bags of words 0.8; they keep their ratio and are silent below `extreme`.
    ## References
    Srivastava et al., "Dropout" (JMLR 2014), section A.4; the keep probability of TensorFlow 1 is 1 - p.
    """
    for place in log.places:
        if calls is not None and calls.in_library(place.module, place.root):
            continue
        ratio = log.ratio(place.root)
        low = ratio is not None and ratio < limits.signal_to_noise
        features = place.shape[-1] if place.shape else 0
        reason = None
        if place.p >= limits.extreme or (place.p >= limits.high and low):
            reason = f"dropout with p={place.p:g} multiplies what it keeps by {1 / max(1e-9, 1 - place.p):.3g}"
        elif (
            place.on_data
            and features <= limits.few_features
            and place.p >= limits.input_share
            and len(place.shape) == 2
        ):
            reason = f"dropout with p={place.p:g} on an input of {features} features"
        elif place.p >= 0.05 and tape is not None and tape.tapes and _on_output(tape.first, place):
            reason = f"dropout with p={place.p:g} on the output itself, directly before the loss"
        if reason is None:
            continue
        where, by_module = _place(place, tree)
        told = "" if ratio is None else f"; the output's signal-to-noise ratio over masks is {ratio:.2g}"
        measured = {"p": Measure(value=place.p, threshold=limits.high)}
        if ratio is not None:
            measured["signal_to_noise"] = Measure(value=ratio, threshold=limits.signal_to_noise)
        yield Finding(
            message=reason + told,
            location=Location(
                path=where.path if where else None, line=where.line if where else None, module=place.module or None
            ),
            measured=measured,
            remedy="a smaller p (0.1 to 0.5); where 0.9 was the share to keep, p=0.1"
            if place.p >= limits.high
            else "leave this dropout out, or put it before a hidden layer",
            treatment=ScaleDropout(
                factor=0.25 if place.p >= limits.high else 0.0,
                place=Place(path=place.source.path, line=place.source.line) if place.source else Place(),
                module=place.module if by_module else "",
            ),
            demonstrated=f"the masks move the output more than the samples do (ratio {ratio:.2g})"
            if low
            else f"one value in {1 / max(1e-9, 1 - place.p):.3g} is left"
            if place.p >= limits.extreme
            else None,
        )
        return


def _place(place: DropoutPlace, tree: ModuleTree | None) -> tuple[Source | None, bool]:
    record = tree.module(place.module, place.root) if tree is not None else None
    if record is not None and "Dropout" in record.kind:
        return record.created or place.source, True
    return place.source, False


def _on_output(tape: Tape, place: DropoutPlace) -> bool:
    """Whether a loss takes the result of this dropout."""
    for loss in tape.named(*_LOSSES):
        note = loss.inputs[0] if loss.inputs else None
        for _ in range(6):
            op = tape.producer(note.id) if note is not None else None
            if op is None or not op.inputs:
                break
            if _is_dropout(tape, op):
                return op.source == place.source and op.module == place.module
            if op.name not in _THROUGH:
                break
            note = op.inputs[0]
    return False


def _is_dropout(tape: Tape, op: Op) -> bool:
    if op.name == "native_dropout":
        return True
    mask = tape.producer(op.inputs[1].id) if op.name == "mul" and len(op.inputs) == 2 else None
    return mask is not None and mask.name in ("div", "bernoulli")
