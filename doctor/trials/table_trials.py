"""What a fault of a table costs, by the reference model: its score with the fault and without it.

Both arms have the same model, seeds and held-out rows. A fault of a table is shown by its rows; a trial in which it costs
nothing leaves it standing, as inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from doctor.evidence.reference_scores import MIN_ROWS, ReferenceScores, forest, score_of
from doctor.evidence.table_rows import Rows
from doctor.evidence.table_sample import Array, SplitSample, TableSample
from doctor.evidence.threads import one_thread
from doctor.findings import Effect, Finding, Severity, Verdict

SEEDS = 2
ROWS = 3_000
Z = 2.0  # standard errors from which a difference is taken for real


def judged(finding: Finding, sample: TableSample, scores: ReferenceScores) -> Finding:
    """The finding with its trial's effect and verdict; as it is where no trial is known for its rule."""
    trial = TRIED.get(finding.rule)
    if trial is None or finding.level is Severity.INFO:
        return finding
    with one_thread():
        effect = trial(finding, sample, scores)
    if effect is None:
        return finding
    proven = effect.size is not None and effect.size >= Z
    return finding.revised(effect=effect, verdict=Verdict.CONFIRMED if proven else Verdict.INCONCLUSIVE)


def _fitted(sample: TableSample, data: Array, labels: Array, seed: int) -> Any:
    model = forest(sample.classifies, 40)
    model.set_params(random_state=seed, oob_score=False)
    model.fit(data, labels)
    return model


def _known(sample: TableSample, split: SplitSample) -> Array:
    return sample.known(split, ROWS)


def _leak(finding: Finding, sample: TableSample, scores: ReferenceScores) -> Effect | None:
    """The evaluation's score with the leaked rows and without them; the model's on them against its on the others."""
    rows = finding.rows.every if finding.rows else None
    split = sample.split(finding.rows.first[0].split) if finding.rows and finding.rows.first else None
    if not isinstance(rows, Rows) or split is None or len(split.rows) < MIN_ROWS:
        return None
    base, there = _known(sample, sample.base), _known(sample, split)
    leaked = np.isin(split.rows[there], list(rows.numbers(split.name)))
    if leaked.sum() < 5 or (~leaked).sum() < 20:
        return None
    labels = sample.labels(split)[there]
    model = _fitted(sample, sample.matrix(sample.base)[base], sample.labels(sample.base)[base], 0)
    answers = model.predict(sample.matrix(split)[there])
    whole, clean = score_of(sample, labels, answers), score_of(sample, labels[~leaked], answers[~leaked])
    errors = (answers != labels).astype(float) if sample.classifies else np.abs(answers - labels)
    spread = math.sqrt(errors[leaked].var() / leaked.sum() + errors[~leaked].var() / (~leaked).sum()) or 1e-9
    z = float((errors[~leaked].mean() - errors[leaked].mean()) / spread)
    what = "error rate" if sample.classifies else "absolute error"
    return Effect(
        statistic=f"score on {split.name} with and without the leaked rows", control=whole, treated=clean, size=z,
        note=f"a reference model scores {whole:.3f} on {split.name}, {clean:.3f} without these rows; its {what} is "
        f"{errors[leaked].mean():.3g} on them and {errors[~leaked].mean():.3g} on the others (z = {z:.1f})",
    )  # fmt: skip


def _without_rows(finding: Finding, sample: TableSample, scores: ReferenceScores) -> Effect | None:
    """Training with these rows and without them, judged on rows that are not among them."""
    rows = finding.rows.every if finding.rows else None
    base = sample.base
    if not isinstance(rows, Rows) or (finding.rows and finding.rows.first and finding.rows.first[0].split != base.name):
        return None
    known = _known(sample, base)
    bad = np.isin(base.rows[known], list(rows.numbers(base.name)))
    if bad.sum() < 5 or (~bad).sum() < MIN_ROWS:
        return None
    data, labels = sample.matrix(base)[known], sample.labels(base)[known]
    other = next((split for split in sample.others if len(split.rows) >= MIN_ROWS), None)
    before, after, gains, agreeing = [], [], [], 0
    for seed in range(SEEDS):
        answers, truths = _both_arms(sample, data, labels, bad, other, seed)
        arms = [score_of(sample, truths, answer) for answer in answers]
        before.append(arms[0])
        after.append(arms[1])
        agreeing += arms[1] > arms[0]
        one, two = ((a != truths).astype(float) if sample.classifies else np.abs(a - truths) for a in answers)
        gains.append(one - two)
    gain = np.mean(gains, axis=0)
    z = float(gain.mean() / (gain.std() / math.sqrt(len(gain)) or 1e-9))
    control, treated = float(np.mean(before)), float(np.mean(after))
    where = other.name if other is not None else "the other rows"
    # Rows that the model itself chose leave behind those that it finds easy: only another split is a fair judge of them.
    fair = other is not None or finding.rule != "DAT013"
    why = "" if fair else "; judged on rows that it agrees with, since there is no other split: no proof"
    return Effect(
        statistic="score on other rows, trained with and without these", control=control, treated=treated,
        size=z if fair else None, seeds=SEEDS, agreeing=agreeing,
        note=f"a reference model trained with these rows scores {control:.3f} on {where}, without them {treated:.3f} "
        f"({SEEDS} seeds, z = {z:.1f}){why}",
    )  # fmt: skip


def _both_arms(
    sample: TableSample, data: Array, labels: Array, bad: Array, other: SplitSample | None, seed: int
) -> tuple[tuple[Array, Array], Array]:
    """Answers of the models trained with and without the bad rows on rows held out (an evaluation split, or folds of the
    other rows), and the truth.
    """
    if other is not None:
        there = _known(sample, other)
        models = [_fitted(sample, data[kept], labels[kept], seed) for kept in (np.ones(len(bad), bool), ~bad)]
        one, two = (model.predict(sample.matrix(other)[there]) for model in models)
        return (one, two), sample.labels(other)[there]
    fold = np.random.default_rng(0).integers(0, 3, len(labels))
    parts: list[tuple[Array, Array, Array]] = []
    for k in range(3):
        held = (fold == k) & ~bad
        models = [_fitted(sample, data[kept], labels[kept], seed) for kept in (fold != k, (fold != k) & ~bad)]
        parts.append((models[0].predict(data[held]), models[1].predict(data[held]), labels[held]))
    one, two, truths = (np.concatenate(column) for column in zip(*parts, strict=True))
    return (one, two), truths


def _column(finding: Finding, sample: TableSample, scores: ReferenceScores) -> Effect | None:
    alone = scores.alone(finding.location.column or "")
    if alone is None or scores.without is None:
        return None
    error = math.sqrt(max(scores.without * (1 - scores.without), 0.01) / max(len(sample.base.rows), 1))
    z = (scores.score - scores.without) / error
    return Effect(
        statistic="out-of-bag score with and without the column", control=scores.score, treated=scores.without, size=z,
        note=f"a reference model scores {scores.score:.3f} with the column and {scores.without:.3f} without it: what it "
        f"reaches with it will not be had when the column is not known yet",
    )  # fmt: skip


def _pairs(finding: Finding, sample: TableSample, scores: ReferenceScores) -> Effect | None:
    for pairing in scores.pairings:
        if pairing.shift is not None and pairing.split in finding.message:
            return Effect(
                statistic="score as paired and with the targets moved", control=pairing.score, treated=pairing.shifted,
                size=(pairing.shifted - pairing.score) * math.sqrt(max(pairing.rows, 1)),
                note=f"moved by {pairing.shift}, the targets are foretold with {pairing.shifted:.3f}, as paired with "
                f"{pairing.score:.3f}",
            )  # fmt: skip
        if pairing.block is not None and pairing.split in finding.message:
            _, _, inside, outside = pairing.block
            return Effect(
                statistic="right answers in and outside of the stretch", control=inside, treated=outside,
                size=(outside - inside) * math.sqrt(max(pairing.rows, 1) / 20),
                note=f"right in {inside:.0%} of the stretch and in {outside:.0%} elsewhere",
            )  # fmt: skip
    held = [pairing for pairing in scores.pairings if pairing.score >= 0.25]
    apart = next((p for p in scores.pairings if p.permuted is not None and p.split in finding.message), None)
    if apart is None:
        return None
    return Effect(
        statistic="score as paired and with permuted targets", control=apart.score, treated=apart.permuted,
        size=(held[0].score - apart.score) * math.sqrt(apart.rows) if held else 0.0,
        note=f"as paired {apart.score:.3f}, permuted {apart.permuted:.3f}"
        + (f", in {held[0].split} {held[0].score:.3f}" if held else ""),
    )  # fmt: skip


TRIED: dict[str, Callable[[Finding, TableSample, ReferenceScores], Effect | None]] = {
    "DAT002": _without_rows, "DAT003": _leak, "DAT005": _without_rows, "DAT011": _column, "DAT012": _pairs,
    "DAT013": _without_rows,
}  # fmt: skip
