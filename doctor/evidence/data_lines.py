"""Lines of the user's files that make, split, permute and normalise data, and those that step."""

from __future__ import annotations

import re
from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe

_INPUT = re.compile(
    r"^_?(x|inputs?|features?|feats?|nums?|numeric|images?|imgs?|data|pixels|frames?|signals?)(_?\w{0,8})?$",
    re.IGNORECASE,
)
_TARGET = re.compile(
    r"^_?([yt](_\w{1,10}|[a-z]?\d?|tr|te|va|train|test|val|valid)|"
    r"(targets?|tgts?|labels?|classes|prices?|values?|ratings?)(_?\w{0,8})?)$",
    re.IGNORECASE,
)
_HELD_OUT = re.compile(r"(^|_)(test|val|valid|validation|eval|dev|heldout)(_|$)", re.IGNORECASE)
_TRAINING = re.compile(r"(^|_)(train|training|trn|tr)(_|$)", re.IGNORECASE)
_NUMBERS = re.compile(r"factorize|Categorical|vocab|enumerate|Counter|unique|index", re.IGNORECASE)
_NAMED = re.compile(r"label|class|tag|role|target|categor|topic|intent|code|2id|to_i", re.IGNORECASE)
_EVALUATION = re.compile(
    r"(test|val|valid|validation|eval|dev)\w*_(x|tf|tfm|transforms?|images?|inputs?|loader|set|ds|data|dl)$"
    r"|^(x|images?|inputs?|transforms?|tf)_(test|val|valid|eval|dev)|^(test|valid|validation|dev)$", re.IGNORECASE,
)  # fmt: skip


@dataclass(frozen=True)
class DataLine:
    """One call: its `kind` (`convert`, `split`, `permute`, `dataset`, `encode`, `normalise`, `random`, `flip`, `stride`, `step` (of an optimizer, at the `if`
    that guards it), `whole` (a data set made from a whole, though the training part that is named was split off it); `window` (a slice from here to here plus a length), `labels` (under that name); `scaled` (something less its mean, over its deviation), `guarded` (the same, in training or evaluation only); `compared` (a loss, and the names of its targets); `assign` for any
    other call whose result gets a name), what it is assigned to, and the names in its arguments.

    `computed` tells of each argument of a `dataset` whether its values are made or changed on the spot; `passed`, of a
    `convert`, that it converts what its function was given. `taken` is an assignment of a part of something, as of a
    table's column.
    """

    kind: str
    call: str
    source: Source
    names: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    computed: tuple[bool, ...] = ()
    passed: bool = False


@dataclass(frozen=True)
class DataLines(Evidence):
    """All such calls, file by file, outer code before functions."""

    lines: tuple[DataLine, ...] = ()

    def of(self, *kinds: str) -> list[DataLine]:
        """Those of these kinds, in the order of the text."""
        return sorted((line for line in self.lines if line.kind in kinds), key=lambda line: line.source.line)

    def inputs(self) -> Source | None:
        """Where the inputs get their values last: in the call of a data set, or where they become tensors."""
        scaled = next((line.source for line in self.of("scaled")), None)
        return self._computed(0) or self._made(_INPUT, _TARGET) or scaled

    def targets(self) -> Source | None:
        """Where the targets get their values last: in the call of a data set, or where they become tensors."""
        return self._computed(-1) or self._compared() or self._made(_TARGET, _INPUT)

    def _compared(self) -> Source | None:
        """Where a tensor is made under the very name by which a loss takes its targets."""
        taken = {name for line in self.of("compared") for name in line.arguments}
        made = (line for line in self.of("convert") if not line.passed and taken.intersection(line.names))
        return next((line.source for line in made), None)

    def _computed(self, position: int) -> Source | None:
        """The first data set whose inputs (0) or targets (-1) are computed within its call."""
        made = (line for line in self.of("dataset") if len(line.computed) > 1 and line.computed[position])
        return next((line.source for line in made), None)

    def evaluation_inputs(self) -> Source | None:
        """Where something that is called after the evaluation's data or transform is made, or is scaled in one mode only."""
        for line in self.of("guarded"):
            return line.source
        for line in self.of("dataset"):
            held_out = any(map(_HELD_OUT.search, (*line.names, *line.arguments)))
            if held_out and line.computed and line.computed[0]:
                return line.source
        for line in self.of("convert", "normalise", "assign", "dataset"):
            if any(map(_EVALUATION.search, line.names)):
                return line.source
        return None

    def labels(self) -> Source | None:
        """Where the labels are made that a model of a library takes."""
        return next((line.source for line in self.of("labels")), None)

    def windows(self) -> Source | None:
        """Where windows are cut from a series."""
        return next((line.source for line in self.of("window")), None)

    def refitted(self) -> Source | None:
        """Where a scaler (encoder, imputer …) that is fitted elsewhere is fitted on held-out data, too."""
        fits = [line for line in self.of("normalise") if line.call in ("fit", "fit_transform")]
        held = [line for line in fits if any(map(_HELD_OUT.search, (*line.names, *line.arguments)))]
        plain = [line for line in held if not any(map(_TRAINING.search, (*line.names, *line.arguments)))]
        return plain[0].source if plain and len(held) < len(fits) else None

    def encoded(self) -> Source | None:
        """Where labels get their numbers: for held-out data where that is told, else the last such line."""
        made = [line for line in self.of("assign", "encode", "normalise") if self._labels(line)]
        found = [line for line in made if line.call == "fit_transform" or _NUMBERS.search(line.call)]
        held = [line for line in found if any(map(_HELD_OUT.search, (*line.names, *line.arguments)))]
        return (held or found)[-1].source if found else None

    @staticmethod
    def _labels(line: DataLine) -> bool:
        return any(_NAMED.search(name) or _TARGET.match(name) for name in line.names)

    def _made(self, wanted: re.Pattern[str], other: re.Pattern[str]) -> Source | None:
        found: list[tuple[list[DataLine], bool]] = [
            ([line for line in self.of("convert") if not line.passed], True),
            ([line for line in self.of("convert") if not line.passed], False),
            (self.of("taken"), True),
            (self.of("convert"), True),
            (self.of("convert"), False),
            (self.of("assign"), True),
        ]
        for lines, strict in found:
            for line in lines:
                names = line.names or line.arguments
                if any(map(wanted.match, names)) and not (strict and any(map(other.match, names))):
                    return line.source
        return None


@probe
def data_lines(recording: Recording) -> DataLines:
    """Read them."""
    found = []
    for event in recording.of("data-lines"):
        for line in event["lines"]:
            place = source(line["line"])
            if place is not None:
                names, arguments = tuple(line["names"]), tuple(line["arguments"])
                computed = tuple(line.get("computed", ()))
                passed = bool(line.get("passed"))
                found.append(DataLine(line["kind"], line["call"], place, names, arguments, computed, passed))
    return DataLines(tuple(found))
