"""What a quick reference model makes of a table: how far the target is foretold out of fold, by all features and by one
alone, which labels it contradicts, and whether the pairs of features and targets belong together.

Scores run from 0 (no better than without features) to 1: balanced accuracy above chance for classes, R2 for numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.identifiers import Identifiers
from doctor.evidence.table_rows import Rows, rows_where
from doctor.evidence.table_sample import Array, SplitSample, TableSample
from doctor.evidence.threads import one_thread
from doctor.probes import probe

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np

ROWS = 4_000
ALONE_ROWS = 3_000
MIN_ROWS = 60
TREES = 60
SMALL = 2_500  # rows up to which twice as many trees are grown: their votes are fewer
SUSPECT = 0.05  # probability of the contradicted labels if classes overlap, from which more is asked
CHANCE = 0.25  # signals below which permuted targets are tried, too


@dataclass(frozen=True)
class LabelDoubts:
    """Labels of training that the out-of-bag model contradicts (confident learning: its probability for another class
    exceeds that class's mean among its own rows, and is the greatest).

    `steady` is the share of contradicted labels among the most confident two fifths of the rows, `steadiness` that share
    among the first tenth over that among the next three (about 1 for errors of labelling, near 0 for classes that
    overlap), `by_overlap` how probable so steady a share is where classes overlap; `elsewhere` is the share in an evaluation split, with the standard errors between as `z`.
    """

    rows: Rows
    contradicted: int
    examined: int
    steady: float
    steadiness: float
    by_overlap: float = 1.0
    elsewhere: float | None = None
    z: float = 0.0


@dataclass(frozen=True)
class Pairing:
    """Whether features and targets of a split belong together. `score` is the signal out of bag: the mean over classes of
    2 AUC - 1, or the correlation; 0 is none, whatever the shares of the classes. `permuted` is the best with permuted targets;
    `shift` a displacement of the target by rows under which the score returns (`shifted`); `block` the rows of a stretch
    (first, last, its share of right answers, that of the rest) in which the model fails while it holds elsewhere, all
    of them as `stretch`.
    """

    split: str
    score: float
    permuted: float | None = None
    shift: int | None = None
    shifted: float = 0.0
    block: tuple[int, int, float, float] | None = None
    rows: int = 0
    stretch: Rows | None = None


@dataclass(frozen=True)
class ReferenceScores(Evidence):
    """`scores` by column are of each feature (and identifier) alone; `without` is the score of all others than the best."""

    score: float
    scores: tuple[tuple[str, float], ...]
    without: float | None
    pairings: tuple[Pairing, ...]
    doubts: LabelDoubts | None
    classifies: bool

    def alone(self, column: str) -> float | None:
        """The score of one column."""
        return dict(self.scores).get(column)


@probe
def reference_scores(source: DataSource, sample: TableSample, ids: Identifiers) -> ReferenceScores:
    """Random forests with out-of-bag predictions on at most `ROWS` rows, shallow trees for single features."""
    if sample.target is None:
        raise Unavailable("no target was named (--target)")
    base = sample.base
    if not sample.features or len(base.rows) < MIN_ROWS:
        raise Unavailable(f"a reference model needs features and {MIN_ROWS} rows")
    with one_thread():
        names = sample.features
        learned = _Learned(sample, base, names)
        alone = [(name, _alone(sample, base, name)) for name in (*names, *(n for n in ids.names if n in sample.kinds))]
        best = max(alone, key=lambda item: item[1])
        without = None
        if best[1] >= 0.9 and len(names) > 1:
            without = _Learned(sample, base, tuple(n for n in names if n != best[0])).score
        pairings = [_pairing(source, sample, base, learned)]
        pairings += [_pairing(source, sample, split, None) for split in sample.others if len(split.rows) >= MIN_ROWS]
        doubts = _doubts(source, sample, learned) if sample.classifies else None
    return ReferenceScores(learned.score, tuple(alone), without, tuple(pairings), doubts, sample.classifies)


class _Learned:
    """A forest on a split's rows, with its out-of-bag answers."""

    def __init__(
        self,
        sample: TableSample,
        split: SplitSample,
        names: tuple[str, ...],
        targets: Array | None = None,
        trees: int = TREES,
        most: int = ROWS,
    ) -> None:
        self.sample, self.split, self.names = sample, split, names
        labels = sample.labels(split) if targets is None else targets
        usable = labels >= 0 if sample.classifies else np.isfinite(labels)
        known = sample.known(split, most)
        known = known[usable[known]]  # moved targets may be missing elsewhere
        self.picked = known
        self.labels = labels[known]
        self.data = sample.matrix(split, names)[known]
        self.model = forest(sample.classifies, 2 * trees if trees == TREES and len(known) <= SMALL else trees)
        self.model.fit(self.data, self.labels)
        self.score = self._score()

    @property
    def probabilities(self) -> Array:
        """Out of bag, (rows, classes of the model)."""
        raw = self.model.oob_decision_function_
        found: Array = np.nan_to_num(raw, nan=1 / raw.shape[1])
        return found

    def _score(self) -> float:
        if self.sample.classifies:
            answers = self.model.classes_[self.probabilities.argmax(axis=1)]
            return _balanced(self.labels, answers)
        return score_of(self.sample, self.labels, self.model.oob_prediction_)

    @property
    def right(self) -> Array:
        """Whether each out-of-bag answer is right: the class, or the half of the target's range."""
        if self.sample.classifies:
            found: Array = self.model.classes_[self.probabilities.argmax(axis=1)] == self.labels
            return found
        middle = np.median(self.labels)
        halves: Array = (self.model.oob_prediction_ > middle) == (self.labels > middle)
        return halves


def forest(classifies: bool, trees: int = TREES) -> Any:
    """The reference model: it takes missing values as they are, and needs no scaling."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    common: dict[str, Any] = {
        "n_estimators": trees,
        "min_samples_leaf": 2,
        "oob_score": True,
        "random_state": 0,
        "n_jobs": 2,
    }
    return RandomForestClassifier(**common) if classifies else RandomForestRegressor(max_features=0.5, **common)


def score_of(sample: TableSample, labels: Array, answers: Array) -> float:
    """The score of answers: balanced accuracy above chance, or R2; not below 0."""
    if sample.classifies:
        return _balanced(labels, answers)
    variance = float(np.var(labels))
    return max(0.0, 1 - float(np.mean((labels - answers) ** 2)) / variance) if variance else 0.0


def _balanced(labels: Array, answers: Array) -> float:
    classes = np.unique(labels)
    recall = float(np.mean([np.mean(answers[labels == value] == value) for value in classes]))
    return max(0.0, (recall - 1 / len(classes)) / (1 - 1 / len(classes))) if len(classes) > 1 else 0.0


def _alone(sample: TableSample, split: SplitSample, name: str) -> float:
    """Three folds of a shallow tree on one column."""
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    known = sample.known(split, ALONE_ROWS)
    labels, data = sample.labels(split)[known], sample.column(split, name)[known].reshape(-1, 1)
    if sample.classifies:
        _, counts = np.unique(labels, return_counts=True)
        if counts.min() < 3:
            enough = np.isin(labels, np.unique(labels)[counts >= 3])
            labels, data = labels[enough], data[enough]
        if len(np.unique(labels)) < 2:
            return 0.0
        model: Any = DecisionTreeClassifier(max_depth=6, min_samples_leaf=3, class_weight="balanced", random_state=0)
        answers = cross_val_predict(model, data, labels, cv=StratifiedKFold(3, shuffle=True, random_state=0))
        return _balanced(labels, answers)
    model = DecisionTreeRegressor(max_depth=9, min_samples_leaf=3, random_state=0)
    answers = cross_val_predict(model, data, labels, cv=KFold(3, shuffle=True, random_state=0))
    return score_of(sample, labels, answers)


def _pairing(source: DataSource, sample: TableSample, split: SplitSample, learned: _Learned | None) -> Pairing:
    learned = learned or _Learned(sample, split, sample.features, trees=40)
    count, signal = len(learned.picked), _signal(learned)
    if signal >= CHANCE:
        block = _block(learned)
        return Pairing(split.name, signal, block=block, rows=count, stretch=block and _stretch(source, split, block))
    labels = sample.labels(split)
    generator = np.random.default_rng(1)
    permuted = max(
        _signal(_Learned(sample, split, sample.features, generator.permutation(labels), 40)) for _ in range(3)
    )
    shift, best = None, 0.0
    if split.whole and count > 200:
        for places in (1, -1, 2, -2, 3, -3):
            moved = _signal(_Learned(sample, split, sample.features, np.roll(labels, places), 40))
            if moved > best:
                shift, best = places, moved
    linear = _linear(learned)
    clear = best > max(0.3, 3 * max(signal, permuted))
    signal = max(signal, linear)
    return Pairing(split.name, signal, permuted, shift if clear else None, best if clear else 0.0, rows=count)


def _signal(learned: _Learned) -> float:
    """How far the out-of-bag answers follow the targets: 2 AUC - 1 over the classes with 20 rows or more, or correlation."""
    if learned.sample.classifies:
        columns = dict(zip(learned.model.classes_, learned.probabilities.T, strict=True))
        return _above_chance(learned.labels, columns)
    return max(0.0, _correlation(learned.model.oob_prediction_, learned.labels))


def _above_chance(labels: Array, columns: dict[Any, Array]) -> float:
    from sklearn.metrics import roc_auc_score

    found = []
    for value, scores in columns.items():
        own = labels == value
        if min(own.sum(), (~own).sum()) >= 5:
            found.append((float(own.sum()), 2 * float(roc_auc_score(own, scores)) - 1))
    total = sum(weight for weight, _ in found)
    return max(0.0, sum(weight * value for weight, value in found) / total) if total else 0.0


def _correlation(one: Array, two: Array) -> float:
    return float(np.corrcoef(one, two)[0, 1]) if one.std() and two.std() else 0.0


def _linear(learned: _Learned) -> float:
    """The signal of a ridge regression, which finds weak straight relations that a forest misses."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import cross_val_predict

    data = np.nan_to_num(learned.data, nan=0.0)
    data = (data - data.mean(axis=0)) / np.maximum(data.std(axis=0), 1e-12)
    if not learned.sample.classifies:
        return max(0.0, _correlation(cross_val_predict(RidgeCV(), data, learned.labels, cv=3), learned.labels))
    columns = {
        value: cross_val_predict(RidgeCV(), data, (learned.labels == value).astype(float), cv=3)
        for value in np.unique(learned.labels)[:10]
    }
    return _above_chance(learned.labels, columns)


def _block(learned: _Learned) -> tuple[int, int, float, float] | None:
    """The stretch of rows in which the answers tell nothing of the targets, while they do elsewhere, if there is one.

    Each row scores what its answer is worth more than one that knows nothing, and the stretch is the run of rows that
    falls farthest below half of the others' mean (Bentley's maximum subarray).
    """
    worth, count = _worth(learned), len(learned.labels)
    if count < 400:
        return None
    level = float(worth.mean())
    for _ in range(3):  # the mean of the others is known once the stretch is
        first, stop = _lowest(worth - level / 2)
        others = np.delete(worth, slice(first, stop))
        if len(others) < count / 3:
            return None
        level = float(others.mean())
    length = stop - first
    if length < max(40, count // 40) or len(np.unique(learned.labels[first:stop])) < 2:
        return None
    inside = worth[first:stop]
    z = (level - inside.mean()) / np.sqrt(others.var() / len(others) + inside.var() / length + 1e-12)
    within, without = np.zeros(count, bool), np.ones(count, bool)
    within[first:stop], without[first:stop] = True, False
    # Rows of a class that is hard, or of like targets, fail together in a sorted file, too: order within them still holds.
    if z < 8 or level < 0.1 or _order(learned, within) > 0.3 * _order(learned, without):
        return None
    right, rows = learned.right.astype(float), learned.split.rows[learned.picked]
    return int(rows[first]), int(rows[stop - 1]), float(right[within].mean()), float(right[without].mean())


def _stretch(source: DataSource, split: SplitSample, block: tuple[int, int, float, float]) -> Rows:
    first, last, *_ = block
    count = last - first + 1
    return rows_where(source.tables, f"row_no BETWEEN {first} AND {last}", count, split.name)


def _worth(learned: _Learned) -> Array:
    """What each out-of-bag answer is worth: probability of the row's class over that of a class drawn at random, or one
    less the squared error over the variance.
    """
    if not learned.sample.classifies:
        residual = learned.model.oob_prediction_ - learned.labels
        explained: Array = np.maximum(1 - residual**2 / max(float(np.var(learned.labels)), 1e-12), -3.0)
        return explained
    own = np.searchsorted(learned.model.classes_, learned.labels)
    shares = np.bincount(own, minlength=len(learned.model.classes_)) / len(own)
    probabilities = learned.probabilities
    worth: Array = probabilities[np.arange(len(own)), own] - probabilities @ shares
    return worth


def _lowest(values: Array) -> tuple[int, int]:
    """The run of rows (first, one past the last) whose sum is lowest."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    falls = np.maximum.accumulate(sums) - sums
    stop = int(falls.argmax())
    return int(sums[: stop + 1].argmax()), stop


def _order(learned: _Learned, rows: Array) -> float:
    """How far answers follow the targets among these rows alone (`_signal`)."""
    if learned.sample.classifies:
        answers = dict(zip(learned.model.classes_, learned.probabilities[rows].T, strict=True))
        return _above_chance(learned.labels[rows], answers)
    return max(0.0, _correlation(learned.model.oob_prediction_[rows], learned.labels[rows]))


def _by_overlap(wrong: Array) -> float:
    """P value of the contradicted labels in the first tenth, given those in the first two fifths, if classes overlap.

    Where the logit is normal and labels follow it, the first tenth has at most 0.45 of the next three's rate while the
    two fifths have less than 8 %, and the ratio grows with that share (by simulation over deviations of 0.5 to 4).
    """
    from scipy.stats import binom

    tenth, two_fifths = len(wrong) // 10, 2 * len(wrong) // 5
    ratio = 0.45 + 2 * max(0.0, float(wrong[:two_fifths].mean()) - 0.08)
    chance = ratio * tenth / (ratio * tenth + two_fifths - tenth)
    return float(binom.sf(int(wrong[:tenth].sum()) - 1, int(wrong[:two_fifths].sum()), chance))


def _most_doubtful(probabilities: Array, own: Array, share: float) -> Array:
    """The rows whose label the model contradicts most: those that confident learning doubts (Northcutt et al. 2021: the
    probability of another class exceeds that class's mean among its own rows, and is the greatest), and more of the
    contradicted ones, if a greater share is wrong where the model is surest.
    """
    rows, answers = np.arange(len(own)), probabilities.argmax(axis=1)
    means = np.array(
        [probabilities[own == k, k].mean() if (own == k).any() else 1.0 for k in range(probabilities.shape[1])]
    )
    doubted = (answers != own) & (probabilities >= means).any(axis=1)
    doubted &= np.where(probabilities >= means, probabilities, 0).argmax(axis=1) != own
    margin = probabilities[rows, answers] - probabilities[rows, own]
    margin = np.where(doubted, 1 + margin, margin)
    count = min(max(round(share * len(own)), int(doubted.sum())), int((margin > 0).sum()))
    most: Array = np.zeros(len(own), bool)
    most[np.argsort(-margin, kind="stable")[:count]] = True
    return most


def _doubts(source: DataSource, sample: TableSample, learned: _Learned) -> LabelDoubts | None:
    probabilities, labels = learned.probabilities, learned.labels
    classes = learned.model.classes_
    if len(labels) < 150 or learned.score < 0.3:
        return None
    own = np.searchsorted(classes, labels)
    top = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = (probabilities.argmax(axis=1) != own)[top]
    count = len(wrong)
    first, next_ = wrong[: count // 10].mean(), wrong[count // 10 : 2 * count // 5].mean()
    steady = float(wrong[: 2 * count // 5].mean())
    elsewhere, z = None, 0.0
    for split in sample.others:
        there = sample.labels(split)
        known = np.flatnonzero(np.isin(there, classes))[:ROWS]
        if len(known) < 100:
            continue
        guesses = learned.model.predict_proba(sample.matrix(split, learned.names)[known])
        level = np.quantile(probabilities.max(axis=1), 0.6)
        sure = guesses.max(axis=1) >= level
        if sure.sum() < 40:
            continue
        elsewhere = float((classes[guesses.argmax(axis=1)] != there[known])[sure].mean())
        pooled = (steady * 0.4 * count + elsewhere * sure.sum()) / (0.4 * count + sure.sum())
        z = (steady - elsewhere) / max(np.sqrt(pooled * (1 - pooled) * (1 / (0.4 * count) + 1 / sure.sum())), 1e-9)
        break
    by_overlap = _by_overlap(wrong)
    if len(learned.split.rows) > count and (by_overlap < SUSPECT or z > 2):  # all rows of the sample are to be named
        learned = _Learned(sample, learned.split, learned.names, most=len(learned.split.rows))
        probabilities, own = learned.probabilities, np.searchsorted(learned.model.classes_, learned.labels)
    doubted = _most_doubtful(probabilities, own, max(steady - (elsewhere or 0.0), 0.0))
    numbers = learned.split.rows[learned.picked][doubted]
    split_no = source.tables.splits.index(learned.split.name)
    listed = ", ".join(map(str, numbers)) or "-1"
    sql = f"SELECT split_no, row_no FROM data WHERE split_no = {split_no} AND row_no IN ({listed})"
    rows = Rows(int(doubted.sum()), len(own), source.tables, sql)
    return LabelDoubts(
        rows, int(wrong.sum()), count, steady, float(first / next_) if next_ else 0.0, by_overlap, elsewhere, float(z)
    )  # fmt: skip
