"""Outcomes in rows, rates with their intervals, and tables."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.examination import Outcome


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a rate by Wilson's score (1927)."""
    if of == 0:
        return 0.0, 1.0
    rate, square = hits / of, z * z / of
    centre = (rate + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(rate * (1 - rate) / of + square / (4 * of))
    return max(0.0, centre - half), min(1.0, centre + half)


def rate(hits: int, of: int) -> str:
    """`41/50 = 82 % (69 to 90)`."""
    if of == 0:
        return "0/0"
    low, high = wilson(hits, of)
    return f"{hits}/{of} = {hits / of:.0%} ({100 * low:.0f} to {100 * high:.0f})".replace("%", " %")


def row(outcome: Outcome) -> str:
    """One line of the log."""
    right = outcome.first if outcome.sick else not outcome.alarms
    mark = "FAIL" if outcome.failure else "ok  " if right else "late" if outcome.found else "MISS"
    line = "" if not outcome.first else ("line" if outcome.on_line else "LINE?")
    verdict = outcome.answers[0].verdict if outcome.first else ""
    seen = " ".join(outcome.alarms) or "-"
    fault = f"{outcome.fault:<26} " if not outcome.operator else ""
    return f"{mark} {outcome.name:<60} {fault}{seen:<24} {line:<5} {verdict:<13} {outcome.seconds:5.1f} s"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Sensitivity, specificity, confirmation; in words and with intervals."""
    looked = [o for o in outcomes if not o.failure]
    sick, healthy = [o for o in looked if o.sick], [o for o in looked if not o.sick]
    first = [o for o in sick if o.first]
    errors = [o for o in healthy if any(a.severity == "error" for a in o.answers)]
    lines = [
        f"mutants        {len(sick)} of {len({o.operator for o in sick})} operators and {len({o.fault for o in sick})} faults",
        f"found          {rate(sum(o.found for o in sick), len(sick))}",
        f"found first    {rate(len(first), len(sick))}",
        f"right line     {rate(sum(o.on_line for o in first), len(first))} of those found first",
        f"confirmed      {rate(sum(o.confirmed for o in first), len(first))} of those found first",
        f"healthy        {rate(sum(not o.alarms for o in healthy), len(healthy))} silent; {len(errors)} with an error",
    ]
    if len(looked) < len(outcomes):
        lines.append(f"no report      {len(outcomes) - len(looked)}")
    return "\n".join(lines)


def by_rule(outcomes: Iterable[Outcome]) -> str:
    """Rule by rule: how often it led, was right, and was confirmed when right and when wrong.

    A leading finding that is confirmed though the fault is another is a false confirmation; so is any on a healthy
    program.
    """
    led: Counter[str] = Counter()
    right: Counter[str] = Counter()
    confirmed: Counter[str] = Counter()
    falsely: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    names: dict[str, str] = {}
    for outcome in outcomes:
        for place, answer in enumerate(outcome.answers):
            names[answer.rule] = answer.name
            if not outcome.sick:
                alarms[answer.rule] += 1
                falsely[answer.rule] += answer.verdict == "confirmed"
            elif place == 0:
                led[answer.rule] += 1
                right[answer.rule] += answer.fits
                confirmed[answer.rule] += answer.fits and answer.verdict == "confirmed"
                falsely[answer.rule] += not answer.fits and answer.verdict == "confirmed"
    lines = [f"{'rule':<8} {'name':<32} {'led':>4} {'right':>6} {'confirmed':>10} {'falsely':>8} {'on healthy':>11}"]
    lines += [
        f"{rule:<8} {names[rule]:<32} {led[rule]:>4} {right[rule]:>6} {confirmed[rule]:>10} {falsely[rule]:>8}"
        f" {alarms[rule]:>11}"
        for rule in sorted(names)
    ]
    totals = [sum(counter.values()) for counter in (led, right, confirmed, falsely, alarms)]
    lines.append(f"{'all':<8} {'':<32} {totals[0]:>4} {totals[1]:>6} {totals[2]:>10} {totals[3]:>8} {totals[4]:>11}")
    return "\n".join(lines)


def confusion(outcomes: Iterable[Outcome]) -> str:
    """Fault by fault: how many, and which rules led the reports (in brackets: not a right answer)."""
    led: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        if outcome.sick and not outcome.failure:
            answer = outcome.answers[0] if outcome.answers else None
            led[outcome.fault]["-" if answer is None else answer.rule if answer.fits else f"({answer.rule})"] += 1
    lines = [f"{'fault':<26} {'n':>4}  led by"]
    for fault in sorted(led):
        told = "  ".join(f"{rule} {count}" for rule, count in led[fault].most_common())
        lines.append(f"{fault:<26} {led[fault].total():>4}  {told}")
    return "\n".join(lines)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table of the README: rates by family of operators, then healthy programs."""
    from benchmarks.operators import operators

    known = operators()
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.sick and not outcome.failure and outcome.operator in known:
            groups[known[outcome.operator].family].append(outcome)
    everything = [o for group in groups.values() for o in group]
    lines = [
        "| faults put into healthy programs | mutants | found first | found | right line | confirmed |",
        "|---|---|---|---|---|---|",
    ]
    for family, group in [*sorted(groups.items()), ("all", everything)]:
        first = [o for o in group if o.first]
        low, high = wilson(len(first), len(group))
        lines.append(
            f"| {family} | {len(group)} | {len(first) / max(len(group), 1):.0%} ({100 * low:.0f}–{100 * high:.0f}) "
            f"| {sum(o.found for o in group) / max(len(group), 1):.0%} "
            f"| {sum(o.on_line for o in first) / max(len(first), 1):.0%} "
            f"| {sum(o.confirmed for o in first) / max(len(first), 1):.0%} |".replace("%", " %")
        )
    healthy = [o for o in outcomes if not o.sick and not o.failure]
    silent = sum(not o.alarms for o in healthy)
    low, _ = wilson(silent, len(healthy))
    lines += [
        "",
        "| healthy programs | no error, no warning | lower bound (95 %) |",
        "|---|---|---|",
        f"| {len(healthy)} | {silent} | {100 * low:.0f} % |",
    ]
    return "\n".join(lines)
