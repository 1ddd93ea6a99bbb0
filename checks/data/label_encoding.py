"""Class ids that the loss cannot mean."""

from __future__ import annotations

import re
from collections.abc import Iterator

from doctor.evidence.data_lines import DataLines
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.evidence.target_log import TargetLog, TargetRecord
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from ._places import location


class LabelLimits(Limits):
    """Thresholds of DAT006."""

    outside_share: float = 0.01  # of binary targets outside 0 to 1
    per_class: int = 20  # labels a class, before a class that never appears means anything
    most_classes: int = 50


_FORMS = (
    (r"0D or 1D target tensor expected, multi-target not supported", "the class ids have a second axis",
     "squeeze them: y = y.squeeze(1)"),
    (r"expected scalar type Long but found (\w+)", "class ids must be int64, not {1}", "convert them: y = y.long()"),
    (r"Expected floating point type for target with class probabilities, got (\w+)",
     "one-hot targets of type {1} stand where class ids or probabilities are wanted", "pass class ids: y.argmax(1)"),
    (r"Class values must be (smaller than num_classes|non-negative)", "a class id is not among the classes of one_hot",
     "number the classes from 0, and give one_hot their count"),
    (r"[Aa]ll elements of target should be between 0 and 1", "binary targets lie outside 0 to 1",
     "map the two labels to 0 and 1"),
    (r"\"(nll_loss|cross_entropy)\w*\" not implemented for '(\w+)'", "class ids must be int64, not {2}",
     "convert them: y = y.long()"),
)  # fmt: skip


@check(
    "DAT006", "label-encoding", Severity.ERROR, faq="training/data/incorrect",
    faults=("label-encoding", "wrong-output-size"),
)  # fmt: skip
def label_encoding(
    run: ProgramRun | None, targets: TargetLog | None, lines: DataLines | None, limits: LabelLimits
) -> Iterator[Finding]:
    """The labels are not numbered as the loss expects: from 0 to the number of outputs less one, or 0 and 1.

    ## What it measures
    Range, type and shape of the targets of every loss against the outputs of the prediction: ids below 0 or beyond the
    last output (the program crashes), binary targets outside 0 to 1 (it does not), one-hot rows of integers, ids that
    start at 1 and leave output 0 unused. In evaluations, labels that the outputs name consistently by other numbers than
    in training.
    ## Why it hurts
    Where it does not crash, the loss has no minimum: binary cross-entropy of a target 2 or -1 falls without end.
    ## Example
    ```python
    y = torch.tensor(frame["stars"].values)  # 1 to 5
    loss = F.cross_entropy(model(x), y)
    ```
    ## Use instead
    ```python
    y = torch.tensor(frame["stars"].values) - 1
    loss = F.cross_entropy(model(x), y)
    ```
    ## When it is right
    The ignored id (-100, or another ignore_index), soft labels between 0 and 1 and a padding class 0 are silent.
    ## References
    torch.nn.functional.cross_entropy, binary_cross_entropy_with_logits (PyTorch 2.13).
    """
    places = [place for place in (targets.places if targets else ()) if place.training]
    if run is not None and run.crash is not None:
        yield from _crashed(run.crash, places, lines)
        return
    for place in places:
        if place.function.startswith("binary") and place.outside > limits.outside_share * max(place.elements, 1):
            yield _beyond_binary(place, lines, limits)
            return
    for place in places:
        if _starts_at_one(place, limits):
            yield _unused_zero(place, lines)
            return


def _crashed(crash: Crash, places: list[TargetRecord], lines: DataLines | None) -> Iterator[Finding]:
    bounds = re.search(r"Target (-?\d+) is out of bounds", crash.message)
    made = lines.targets() if lines else None
    if bounds:
        label = int(bounds[1])
        place = next((p for p in places if p.source == crash.source), places[-1] if places else None)
        outputs = place.outputs if place else 0
        low = int(place.minimum) if place and place.minimum is not None else min(label, 0)
        high = int(place.maximum) if place and place.maximum is not None else label
        shifted = place is not None and low >= 1
        cure = "number the classes from 0: y = y - 1" if shifted else (
            "map the labels to 0 .. C-1" if label < 0 else f"give the last layer {high + 1} outputs, one a class"
        )  # fmt: skip
        if label < -1_000_000:
            cure = "a missing label became this number: drop the samples without a label"
        yield Finding(
            message=f"the label {label} has no output of its own: labels run from {low} to {high}, outputs from 0 to "
            f"{outputs - 1}",
            location=location(crash.source if not shifted and label >= 0 else made, crash.source),
            measured={"label": Measure(value=label, threshold=outputs - 1)},
            remedy=cure,
            demonstrated=f"the program crashes with {crash.type}",
        )
        return
    for pattern, words, cure in _FORMS:
        found = re.search(pattern, crash.message)
        if found and (places or "one_hot" in words or "binary" in words):
            groups = ("", *found.groups())
            yield Finding(
                message=f"{words.format(*groups)}: {crash.type}: {crash.message.splitlines()[0][:200]}",
                location=location(crash.source, made),
                remedy=cure,
                demonstrated=f"the program crashes with {crash.type}",
            )
            return


def _beyond_binary(place: TargetRecord, lines: DataLines | None, limits: LabelLimits) -> Finding:
    share = place.outside / max(place.elements, 1)
    return Finding(
        message=f"{share:.0%} of the targets of {place.function} lie outside 0 to 1 (from {place.minimum:g} to "
        f"{place.maximum:g})",
        location=location(lines.targets() if lines else None, place.source),
        measured={"outside": Measure(value=share, threshold=limits.outside_share)},
        remedy="map the labels to 0 and 1 (masks: divide by 255)",
        demonstrated="this loss has no minimum for such targets",
    )


# Tokens and detection boxes keep id 0 for the fill or the background; a handful of named classes does not.
_FEW = 12


def _starts_at_one(place: TargetRecord, limits: LabelLimits) -> bool:
    counts = place.classes
    if not 3 <= len(counts) <= limits.most_classes or place.target_dims != 1 or place.ignore_index == 0:
        return False
    return counts[0] == 0 and min(counts[1:]) >= limits.per_class


def _unused_zero(place: TargetRecord, lines: DataLines | None) -> Finding:
    return Finding(
        severity=Severity.WARNING
        if len(place.classes) <= _FEW and place.outputs == len(place.classes)
        else Severity.INFO,
        message=f"labels run from 1 to {len(place.classes) - 1}: output 0 of {len(place.classes)} is never used",
        location=location(lines.targets() if lines else None, place.source),
        measured={"labels_0": Measure(value=0, threshold=1)},
        remedy="number the classes from 0, and leave one output out",
        demonstrated="every other output has its label",
    )
