"""Sigmoid and tanh units that sit at their bounds."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.activation_stats import ActivationRecord, ActivationStats
from doctor.evidence.initial_products import InitialProducts
from doctor.evidence.op_tape import OpTape
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.base import Treatment
from doctor.trials.treatments.layers import ReplaceActivation
from doctor.trials.treatments.parameters import RescaleParameters

_PRODUCTS = ("mm", "addmm", "bmm", "convolution")
_PASSING = ("view", "reshape", "_unsafe_view", "transpose", "t", "permute", "native_dropout", "mul", "clone", "cat",
            "max_pool2d_with_indices", "avg_pool2d", "mean", "select", "slice", "unsqueeze", "squeeze")  # fmt: skip


class SaturatedLimits(Limits):
    """Thresholds of GRD005."""

    share: float = (
        0.7  # of the values within 1 % of a bound; standard normal pre-activations give 1 % (tanh), 0 (sigmoid)
    )
    min_units: int = 8
    min_batches: int = 2
    min_samples: int = 64


@check("GRD005", "saturated-activation", Severity.WARNING, faq="tuning/gradients/incorrect", nature=Nature.CONDITION)
def saturated_activation(
    units: ActivationStats, tape: OpTape | None, products: InitialProducts | None, limits: SaturatedLimits
) -> Iterator[Finding]:
    """Most values of a hidden sigmoid or tanh layer sit at a bound, where the derivative is zero.

    ## What it measures
    Share of the values within 1 % of a bound over the sampled batches, of layers whose output goes on into a product
    with weights.
    ## Why it hurts
    The derivative there is below 0.01 (sigmoid) or 0.02 (tanh): what lies below the layer hardly learns.
    ## Example
    ```python
    nn.init.normal_(self.fc1.weight, 0.0, 2.0)
    x = torch.tanh(self.fc1(x))
    ```
    ## Use instead
    ```python
    nn.init.xavier_uniform_(self.fc1.weight)
    x = torch.tanh(self.fc1(x))
    ```
    ## When it is right
    Outputs and gates may be certain: only layers that feed a further product count.
    ## References
    Glorot and Bengio (2010), section 3. The cause is mostly large weights (PAR003) or raw inputs (DAT008).
    """
    worst = max(
        (p for p in units.places if p.function in ("sigmoid", "tanh") and _counts(p, limits) and _hidden(tape, p)),
        key=lambda p: p.saturated_share,
        default=None,
    )
    if worst is None or worst.saturated_share < limits.share:
        return
    fed = _feeding(tape, worst)
    found = next((p for p in (products.products if products else ()) if p.parameter == fed), None)
    cure: Treatment = (
        RescaleParameters(factors=((found.parameter, 1.0 / max(1.0, found.output_rms)),))
        if found is not None and found.output_rms > 2.0
        else ReplaceActivation(function=worst.function, replacement="relu")
    )
    yield Finding(
        message=f"{worst.saturated_share:.0%} of the values of {worst.units} {worst.function} units are at a bound; "
        f"their inputs have mean {worst.input_mean:.3g} and deviation {worst.input_std:.3g}",
        location=Location(
            path=worst.source.path if worst.source else None,
            line=worst.source.line if worst.source else None,
            module=worst.module or None,
        ),
        measured={
            "saturated_share": Measure(value=worst.saturated_share, threshold=limits.share),
            "input_std": Measure(value=worst.input_std),
        },
        remedy="standardise the inputs, use smaller initial weights or a normalisation layer before it",
        treatment=cure,
    )


def _counts(place: ActivationRecord, limits: SaturatedLimits) -> bool:
    return (
        place.units >= limits.min_units and place.batches >= limits.min_batches and place.samples >= limits.min_samples
    )


def _hidden(tape: OpTape | None, place: ActivationRecord) -> bool:
    """Whether the activation's output goes on into a product with a trainable weight."""
    if tape is None:
        return False
    for op in tape.first.named(place.function):
        if op.source != place.source or op.module != place.module:
            continue
        queue = [note.id for note in op.outputs]
        seen: set[int] = set()
        while queue and len(seen) < 200:
            for reader in tape.first.consumers(queue.pop()):
                if reader.index in seen:
                    continue
                seen.add(reader.index)
                if reader.name in _PRODUCTS:
                    return True
                if reader.name in _PASSING:
                    queue.extend(note.id for note in reader.outputs)
    return False


def _feeding(tape: OpTape | None, place: ActivationRecord) -> str | None:
    for op in tape.first.named(place.function) if tape else ():
        if op.source == place.source and op.module == place.module:
            for above in tape.first.upstream(op, through=()) if tape else ():
                if above.name in _PRODUCTS:
                    notes = [note for note in above.inputs if len(note.shape) > 1]
                    views = [tape.first.producer(note.id) for note in notes] if tape else []
                    notes += [
                        note for view in views if view and view.name in ("t", "transpose") for note in view.inputs
                    ]
                    return next((note.parameter for note in notes if note.parameter), None)
    return None
