"""What a check yields and what a trial adds to it: findings, their places, measures and verdicts."""

from __future__ import annotations

import enum
import hashlib
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from doctor.patches.edits.base import Edit
from doctor.trials.treatments import Treatment


class Severity(enum.StrEnum):
    """How much harm the fault does if the finding is right."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for error, 1 for warning, 2 for info: smaller is worse."""
        return list(Severity).index(self)


class Verdict(enum.StrEnum):
    """What the trial showed."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    UNTESTED = "untested"


class Nature(enum.StrEnum):
    """What a rule tells: what ended the program, a mistake that can be edited away, a condition of the model that some
    mistake leads to, or how the training comes out. What is further down the list explains less.
    """

    CRASH = "crash"
    MISTAKE = "mistake"
    CONDITION = "condition"
    OUTCOME = "outcome"

    @property
    def rank(self) -> int:
        """0 for a crash: smaller explains more."""
        return list(Nature).index(self)


class Frozen(BaseModel):
    """Immutable record with no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Location(Frozen):
    """Where a fault sits, as far as known; `path` and `line` are in the user's own code."""

    path: str | None = None
    line: int | None = None
    module: str | None = None
    column: str | None = None
    tensor: str | None = None

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.path and self.line else (self.path or "")
        named = self.module or self.column or self.tensor
        return f"{place} ({named})" if place and named else (place or named or "")


class Measure(Frozen):
    """One measured number and the threshold that it was held against."""

    value: float | int | str | None
    threshold: float | int | None = None
    unit: str | None = None

    def __str__(self) -> str:
        text = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{text} {self.unit}" if self.unit else text


class Related(Frozen):
    """A further place that belongs to the finding, with what happens there."""

    location: Location
    message: str


class RowPlace(Frozen):
    """One row of a data set: its split, its file where it has one, and its number there (from 0, no header counted).

    With `whole` the sample is a file of its own (an image, a recording), and the number is that in its split.
    """

    split: str
    row: int
    path: str | None = None
    value: str | None = None
    whole: bool = False


class RowList(Frozen):
    """The rows that a finding is about: how many of how many, the first of them, and, for `--rows`, all.

    `every` yields split, file and row number of all; it is no part of what is written.
    """

    count: int
    of: int
    first: tuple[RowPlace, ...] = ()
    every: Any = Field(default=(), exclude=True, repr=False)

    @property
    def share(self) -> float:
        """The share of the rows that were looked at."""
        return self.count / self.of if self.of else 0.0


class Rate(Frozen):
    """One point of the learning rate's response: the mean loss over the last third of the steps at this rate (None
    where it diverges). `sane` rates miss at most a quarter of the best one's progress.
    """

    factor: float
    learning_rate: float | None
    loss: float | None
    sane: bool = False
    best: bool = False


class Effect(Frozen):
    """Outcome of a trial in numbers.

    `control` and `treated` are the compared quantity without and with the treatment (for a training trial:
    mean loss over the last steps, averaged over the seeds); the curves are the losses by step at the first seed, and
    `rates` is the learning rate's response where it was searched. `on_top_of` are cures that both arms had.
    """

    statistic: str
    control: float | None = None
    treated: float | None = None
    size: float | None = None
    seeds: int = 1
    agreeing: int = 0
    steps: int = 0
    control_curve: tuple[float, ...] = ()
    treated_curve: tuple[float, ...] = ()
    rates: tuple[Rate, ...] = ()
    on_top_of: tuple[str, ...] = ()
    suggestion: str | None = None
    note: str | None = None


class PatchedFile(Frozen):
    """What a patch makes of one file: its real path, the SHA-256 of what is on disk, and the new content."""

    path: str
    original: str
    content: bytes
    text: str


class Patch(Frozen):
    """The cure as a unified diff, and what the trial of the patched program showed.

    `verdict` and `effect` are of the patched program against the unpatched one (with the patches of `on_top_of`, the
    rules of the findings before it, in both): the diff is what was run.
    """

    description: str
    diff: str
    verdict: Verdict = Verdict.UNTESTED
    effect: Effect | None = None
    on_top_of: tuple[str, ...] = ()
    files: tuple[PatchedFile, ...] = Field(default=(), exclude=True, repr=False)

    @property
    def proven(self) -> bool:
        """Whether the patched program was seen to be better."""
        return self.verdict is Verdict.CONFIRMED


class Finding(Frozen):
    """One fault found.

    A check fills the first group of fields; the registry adds what the rule declares (`rule`, `name`, `faults`,
    `family`, `nature`, `severity` where the check gave none); the trials add `verdict`, `effect`, `caused_by`, `patch`.
    `edit` is the cure as a change at the finding's location; without one, what is known for the treatment is tried.
    """

    message: str
    location: Location = Location()
    measured: dict[str, Measure] = Field(default_factory=dict)
    remedy: str = ""
    treatment: SerializeAsAny[Treatment] | None = None
    edit: SerializeAsAny[Edit] | None = None
    severity: Severity | None = None
    related: tuple[Related, ...] = ()
    rows: RowList | None = None
    evidence_ref: str | None = None
    # A deterministic observation (a crash, a graph that ends) which needs no reference training: what showed it.
    demonstrated: str | None = None
    # Faults that explain this finding, too: where another rule finds one of them, this is its symptom.
    follows_from: tuple[str, ...] = Field(default=(), exclude=True, repr=False)

    rule: str = ""
    name: str = ""
    faults: tuple[str, ...] = ()
    family: str = ""
    nature: Nature = Nature.MISTAKE
    verdict: Verdict = Verdict.UNTESTED
    effect: Effect | None = None
    caused_by: int | None = None
    patch: Patch | None = None
    suppressed: dict[str, str] | None = None

    @property
    def fingerprint(self) -> str:
        """Stable identity: rule, place and wording without numbers, hence also without line numbers."""
        words = re.sub(r"[-+]?\d[\d.,e+-]*", "#", self.message)
        place = (self.location.path, self.location.module, self.location.column, self.location.tensor)
        return hashlib.sha256(repr((self.rule, place, words)).encode()).hexdigest()[:16]

    @property
    def level(self) -> Severity:
        """The severity, once the registry has filled it in."""
        return self.severity or Severity.INFO

    def revised(self, **changes: Any) -> Finding:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)
