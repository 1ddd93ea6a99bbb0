"""How the columns of the evaluation splits are distributed against those of the training split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.table_profile import TableProfile
from doctor.evidence.table_sample import Array, SplitSample, TableSample
from doctor.evidence.threads import one_thread
from doctor.probes import probe

if TYPE_CHECKING:
    import numpy as np
else:
    from doctor.lazy import numpy as np

MIN_ROWS = 30
_TIMES = re.compile(
    r"(^|_|\b)(date|datetime|timestamp|year|month|week|day|period|epoch|quarter|season|fold|split)s?($|_|\b)", re.I
)


@dataclass(frozen=True)
class Affine:
    """The other split as `scale` * training + `offset`; `distance` is the Kolmogorov-Smirnov statistic that remains."""

    scale: float
    offset: float
    distance: float
    base_mean: float
    base_deviation: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class Shift:
    """One column of one split against training.

    `distance` is the Kolmogorov-Smirnov statistic of numbers, the total variation of categories (both 0 to 1);
    `p_value` is that of the two-sample test (Kolmogorov-Smirnov, chi square); `new` are categories that training lacks,
    with their share. `timelike` columns tell when a row was made: they differ in every split by date.
    """

    column: str
    split: str
    kind: str
    distance: float
    p_value: float
    timelike: bool
    role: str = "feature"
    affine: Affine | None = None
    new: tuple[str, ...] = ()
    new_share: float = 0.0
    disjoint: bool = False
    means: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class SplitComparison(Evidence):
    """All columns of all evaluation splits. `auc` tells, by split, how well a classifier tells its rows from training's,
    out of fold, from the features that are no times. `absent` are (column, split) that the split lacks.
    """

    shifts: tuple[Shift, ...]
    auc: tuple[tuple[str, float], ...]
    absent: tuple[tuple[str, str], ...] = ()

    @property
    def tests(self) -> int:
        """The number of tests made, for the correction."""
        return max(len(self.shifts), 1)


@probe
def split_comparison(sample: TableSample, profile: TableProfile) -> SplitComparison:
    """Tests column by column, and one over all."""
    if not sample.others:
        raise Unavailable("no training split to compare with (name the splits: --train, --test)")
    base = sample.base
    others = [split for split in sample.others if len(split.rows) >= MIN_ROWS]
    if len(base.rows) < MIN_ROWS or not others:
        raise Unavailable(f"a split has fewer than {MIN_ROWS} rows")
    shifts, aucs = [], []
    names = [*sample.compared, *([sample.target] if sample.target else [])]
    for other in others:
        for name in names:
            role = "target" if name == sample.target else "feature"
            shift = _shift(sample, base, other, name, role)
            if shift is not None:
                shifts.append(shift)
        untimed = tuple(n for n in sample.features if sample.kinds[n] != "time" and not _timelike(base, n))
        if untimed:
            with one_thread():
                aucs.append((other.name, _auc(sample, base, other, untimed)))
    absent = tuple((c.name, split) for c in profile.columns for split in c.column.absent)
    return SplitComparison(tuple(shifts), tuple(aucs), absent)


def _timelike(base: SplitSample, name: str) -> bool:
    """Whether a column tells when a row was made: by its name, or because the rows are in its order."""
    if _TIMES.search(name):
        return True
    values = base.values[name]
    if values.dtype == object or len(values) < MIN_ROWS:
        return False
    known = values[np.isfinite(values)]
    return bool(len(np.unique(known)) > 0.5 * len(known) and np.all(np.diff(known) >= 0)) if len(known) else False


def _shift(sample: TableSample, base: SplitSample, other: SplitSample, name: str, role: str) -> Shift | None:
    kind = sample.kinds[name]
    timelike = kind == "time" or _timelike(base, name)
    if kind == "category" or (role == "target" and sample.classifies):
        return _categories(base.values[name], other.values[name], name, other.name, timelike, role)
    one, two = (sample.column(split, name) for split in (base, other))
    one, two = one[np.isfinite(one)], two[np.isfinite(two)]
    if len(one) < MIN_ROWS or len(two) < MIN_ROWS:
        return None
    distance, p_value = _ks(one, two)
    disjoint = bool(one.max() < two.min() or two.max() < one.min())
    affine = _affine(one, two) if distance > 0.05 and kind == "number" else None
    return Shift(
        name, other.name, kind, distance, p_value, timelike, role, affine,
        disjoint=disjoint, means=(float(one.mean()), float(two.mean())),
    )  # fmt: skip


def _ks(one: Array, two: Array) -> tuple[float, float]:
    from scipy.stats import ks_2samp

    result = ks_2samp(one, two, method="asymp")
    return float(result.statistic), float(result.pvalue)


def _affine(one: Array, two: Array) -> Affine | None:
    """The map from one to the other: a mere factor or a known change of temperature where it fits, else the one that
    takes the quartiles (where these agree, the deviation and the mean) of one to those of the other.
    """
    moments = (float(one.mean()), float(one.std()), float(two.mean()), float(two.std()))
    plain = [(float(np.median(two) / np.median(one)), 0.0)] if np.median(one) and one.min() * one.max() > 0 else []
    for scale, offset in (*plain, (1.8, 32.0), (1 / 1.8, -32 / 1.8)):
        distance, p_value = _ks(one * scale + offset, two)
        if distance <= 0.05 or p_value > 0.01:
            return Affine(scale, offset, distance, *moments)
    low, middle, high = np.quantile(one, (0.25, 0.5, 0.75))
    low2, middle2, high2 = np.quantile(two, (0.25, 0.5, 0.75))
    scale = (
        (high2 - low2) / (high - low) if high > low and high2 > low2 else (two.std() / one.std() if one.std() else 0)
    )
    if not scale:
        return None
    offset = middle2 - scale * middle if high > low else two.mean() - scale * one.mean()
    distance, _ = _ks(one * scale + offset, two)
    return Affine(float(scale), float(offset), distance, *moments)


def _categories(one: Array, two: Array, name: str, split: str, timelike: bool, role: str) -> Shift | None:
    from scipy.stats import chi2_contingency

    def known(values: Array) -> list[str]:
        return [str(v) for v in values if v is not None and v == v]

    first, second = known(one), known(two)
    if len(first) < MIN_ROWS or len(second) < MIN_ROWS:
        return None
    levels = sorted(set(first) | set(second))
    place = {level: i for i, level in enumerate(levels)}
    counts = np.zeros((2, len(levels)))
    for row, values in enumerate((first, second)):
        np.add.at(counts[row], [place[value] for value in values], 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    # Many rare categories differ by chance: what a total variation of two samples of one population would be.
    chance = float(np.sqrt(2 * shares.mean(axis=0) / np.pi * (1 / len(first) + 1 / len(second))).sum() / 2)
    p_value = float(chi2_contingency(counts).pvalue) if len(levels) > 1 else 1.0
    new = [level for level in levels if not counts[0, place[level]]]
    new_share = float(sum(shares[1, place[level]] for level in new))
    disjoint = not set(first) & set(second)
    return Shift(
        name, split, "category", max(0.0, distance - chance), p_value, timelike, role,
        new=tuple(new[:10]), new_share=new_share, disjoint=disjoint,
    )  # fmt: skip


def _auc(sample: TableSample, base: SplitSample, other: SplitSample, names: tuple[str, ...], rows: int = 2500) -> float:
    """Area under the curve of a classifier of the split, three folds, the larger split cut to the smaller one."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    generator = np.random.default_rng(0)
    count = min(len(base.rows), len(other.rows), rows)
    picked = [generator.choice(len(split.rows), count, replace=False) for split in (base, other)]
    data = np.vstack([sample.matrix(split, names)[rows_] for split, rows_ in zip((base, other), picked, strict=True)])
    which = np.repeat((0, 1), count)
    model = HistGradientBoostingClassifier(max_iter=25, max_depth=4, early_stopping=False, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_predict(model, data, which, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(which, scores))
