"""What a quick reference model shows of a table: a feature that gives the answer away, wrong labels, wrong pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.identifiers import Identifiers
from doctor.evidence.reference_scores import Pairing, ReferenceScores
from doctor.evidence.row_matches import RowMatches
from doctor.evidence.table_profile import TableProfile
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, look

from ._rows import listed


class TargetLeakLimits(Limits):
    """Thresholds of DAT011 on tables."""

    alone: float = 0.95  # score of one column, 1 is perfect
    remaining: float = 0.5  # error that it leaves, over the error of all the other columns together
    remaining_number: float = 0.1  # the same of a number: prices follow areas, and fares follow distances


class LabelNoiseLimits(Limits):
    """Thresholds of DAT013 on tables."""

    steady: float = 0.012  # contradicted labels among the rows of which the model is surest
    by_overlap: float = 0.03  # probability of so steady a share where classes overlap
    alike: float = 0.75  # contradictions among the surest two fifths over those among all: overlap leaves half
    few: float = 0.12  # contradictions among all up to which that is asked: more may be the nature of the target
    most: float = 0.3
    flag_values: int = 10
    flag_tells: float = 0.85  # of the score of all columns
    min_rows: int = 12
    z: float = 3.0  # against an evaluation split whose labels hold


class PairingLimits(Limits):
    """Thresholds of DAT012 on tables."""

    min_rows: int = 300
    holds: float = 0.25  # signal at which pairs belong together
    contradicted: float = 0.3  # of a stretch's rows have equals with another target: DAT005 tells of them


@look("DAT011")
def target_leak(scores: ReferenceScores, profile: TableProfile, limits: TargetLeakLimits) -> Iterator[Finding]:
    """One column alone foretells the target nearly without error, and the others together do not."""
    remaining = limits.remaining if scores.classifies else limits.remaining_number
    leaking = [(name, score) for name, score in scores.scores if score >= limits.alone]
    for name, score in sorted(leaking, key=lambda item: -item[1])[:5]:
        rest = scores.without if scores.without is not None else 0.0
        clear = (1 - score) <= remaining * (1 - rest) and (1 - rest) >= 0.03
        many = len(leaking) > 3
        yield Finding(
            severity=Severity.ERROR if clear and not many else Severity.INFO,
            message=f"{name} alone foretells {profile.target.name if profile.target else 'the target'} with a score of "
            f"{score:.3f} out of fold (1 is perfect); all other columns together reach {rest:.3f}",
            location=Location(column=name),
            measured={
                "score_alone": Measure(value=score, threshold=limits.alone),
                "score_of_others": Measure(value=rest),
            },
            remedy="drop it, if it is known only after the target is",
        )


@look("DAT012")
def wrong_pairs(
    scores: ReferenceScores, matches: RowMatches | None, ids: Identifiers | None, limits: PairingLimits
) -> Iterator[Finding]:
    """Features tell nothing of the targets beside which they stand."""
    keyed = ids is not None and len(ids.entities) >= 2  # a user and an item: ids tell a forest nothing, and need not
    held = [pairing.split for pairing in scores.pairings if pairing.score >= limits.holds]
    nowhere = all(p.permuted is not None and p.score <= _by_chance(p, 0.0) for p in scores.pairings)
    best = max((pairing.score for pairing in scores.pairings), default=0.0)
    for pairing in scores.pairings:
        if pairing.block is not None:
            first, last, inside, outside = pairing.block
            if _contradicted(matches, pairing.split, first, last) > limits.contradicted:
                continue
            yield _pairs(
                Severity.ERROR, pairing,
                f"about rows {first:,} to {last:,} of {pairing.split} the reference model is right in {inside:.0%}, "
                f"elsewhere in {outside:.0%}: there the targets belong to other rows",
                {"right_there": Measure(value=inside), "right_elsewhere": Measure(value=outside)},
            )  # fmt: skip
        elif pairing.permuted is None or pairing.rows < limits.min_rows or pairing.score >= limits.holds:
            continue
        elif pairing.shift is not None:
            yield _pairs(
                Severity.ERROR, pairing,
                f"targets of {pairing.split} are displaced by {abs(pairing.shift)} row(s): as paired the reference model "
                f"scores {pairing.score:.2f}, with the targets moved by {pairing.shift} it scores {pairing.shifted:.2f}",
                {"score": Measure(value=pairing.score), "score_shifted": Measure(value=pairing.shifted)},
            )  # fmt: skip
        elif pairing.score <= _by_chance(pairing, best if held else 0.0) and (held or nowhere):
            others = f", while in {' and '.join(held)} the pairs hold" if held else ""
            yield _pairs(
                Severity.ERROR if held else Severity.INFO if keyed else Severity.WARNING, pairing,
                f"features of {pairing.split} tell nothing of its targets: the reference model's signal is {pairing.score:.2f} "
                f"out of fold, and {pairing.permuted:.2f} with permuted targets{others}",
                {"score": Measure(value=pairing.score, threshold=pairing.permuted)},
            )  # fmt: skip


def _contradicted(matches: RowMatches | None, split: str, first: int, last: int) -> float:
    """The share of a stretch's rows whose features stand with another target, too."""
    own = [
        conflict.rows.numbers(split) for conflict in (matches.conflicts if matches else ()) if conflict.split == split
    ]
    return sum(first <= row <= last for rows in own for row in rows) / (last - first + 1)


def _by_chance(pairing: Pairing, elsewhere: float) -> float:
    """The score up to which pairs tell nothing; more is allowed where the same features tell much in another split."""
    chance = max(1.3 * (pairing.permuted or 0.0), 1.5 / math.sqrt(pairing.rows))
    return max(chance, min(0.25 * elsewhere, 4.5 / math.sqrt(pairing.rows)))


def _pairs(severity: Severity, pairing: Pairing, message: str, measured: dict[str, Measure]) -> Finding:
    return Finding(
        severity=severity,
        message=message,
        measured={**measured, "rows": Measure(value=pairing.stretch.count if pairing.stretch else pairing.rows)},
        rows=listed(pairing.stretch) if pairing.stretch else None,
        remedy="join features and targets by a key, not by position, and shuffle them together",
    )


def _by_one_flag(scores: ReferenceScores, profile: TableProfile, limits: LabelNoiseLimits) -> bool:
    """Whether one column of few values tells as much as all: that it is not always right is no fault of the labels."""
    few = {c.name for c in profile.features if max((s.distinct for s in c.splits), default=0) <= limits.flag_values}
    return any(name in few and score >= limits.flag_tells * scores.score for name, score in scores.scores)


@look("DAT013")
def noisy_labels(scores: ReferenceScores, profile: TableProfile, limits: LabelNoiseLimits) -> Iterator[Finding]:
    """Labels that the reference model contradicts where it is surest."""
    doubts = scores.doubts
    if doubts is None or any(pairing.block for pairing in scores.pairings):
        return
    sure = doubts.steady * 0.4 * doubts.examined
    even = doubts.by_overlap < limits.by_overlap and limits.steady <= doubts.steady <= limits.most
    overall = doubts.contradicted / max(doubts.examined, 1)
    even = even or limits.steady <= limits.alike * overall <= min(doubts.steady, limits.alike * limits.few)
    even = even and not _by_one_flag(scores, profile, limits)
    cleaner = doubts.elsewhere is not None and doubts.z >= limits.z
    cleaner = cleaner and doubts.steady >= max(limits.steady, 2 * (doubts.elsewhere or 0.0))
    if doubts.elsewhere is not None and doubts.elsewhere > 0.6 * doubts.steady:
        even = False  # the evaluation is contradicted as often: classes that overlap
    if sure < limits.min_rows or not (even or cleaner):
        return
    there = f", against {doubts.elsewhere:.1%} in the evaluation" if doubts.elsewhere is not None else ""
    yield Finding(
        severity=Severity.ERROR,
        message=f"about {doubts.rows.count:,} of {doubts.rows.of:,} labels are probably wrong: the reference model "
        f"contradicts {doubts.steady:.1%} of the labels of which it is surest{there}",
        location=Location(column=profile.target.name if profile.target else None),
        measured={
            "doubted": Measure(value=doubts.rows.count),
            "contradicted_where_sure": Measure(value=doubts.steady, threshold=limits.steady),
            "steadiness": Measure(value=doubts.steadiness),
            "by_overlap": Measure(value=doubts.by_overlap, threshold=limits.by_overlap),
            "contradicted_in_evaluation": Measure(value=doubts.elsewhere),
        },
        rows=listed(doubts.rows),
        remedy="look at these rows and relabel or drop them; a loss that bears wrong labels is the second choice",
    )
