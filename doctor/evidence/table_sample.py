"""Values of a table's rows, in memory, for what needs a model or a test over whole distributions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from doctor.evidence.base import Evidence
from doctor.evidence.data_source import TRAIN, DataSource
from doctor.evidence.identifiers import Identifiers, named_like_id
from doctor.evidence.missing_codes import MissingCodes
from doctor.evidence.table_profile import TableProfile
from doctor.probes import probe
from doctor.tables.columns import BOOLEAN, NESTED, TEXT, TIME
from doctor.tables.tables import Tables

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
else:
    from doctor.lazy import numpy as np

    Array = Any

ROWS = 20_000  # of a split; all of them in a smaller one
COLUMNS = 20_000  # columns of which values are taken
MODELLED = 400  # features that a reference model is given: of a wider table those that tell most of the target,
FEW_TELLING = 20  # as many of them as tell something of it for certain, but these many
TOPICS = 24  # numbers that stand for the words of a text
WORDS = 4  # of a text on average, from which on they are sentences


@dataclass(frozen=True, eq=False)
class SplitSample:
    """Rows of one split: numbers as float64 with NaN for missing ones (also disguised), times in seconds, texts as str or
    None. `rows` are their numbers, `total` the rows of the split.
    """

    name: str
    total: int
    rows: Array
    values: dict[str, Array]

    @property
    def whole(self) -> bool:
        """Whether these are all rows."""
        return len(self.rows) == self.total


@dataclass(frozen=True, eq=False)
class TableSample(Evidence):
    """The sample of each split; `kinds` by column name: `number`, `category`, `text`, `time`.

    `compared` are the feature columns, `features` those of them that a model is given: in a table of more than `MODELLED`
    those that tell of the target, chosen on the rows `spent` (places in the base split), which no model sees.
    """

    splits: tuple[SplitSample, ...]
    kinds: dict[str, str]
    features: tuple[str, ...]
    target: str | None
    classes: tuple[Any, ...] = ()
    compared: tuple[str, ...] = ()
    spent: Array | None = None
    _columns: dict[tuple[str, str], Array] = field(default_factory=dict, repr=False)
    _labels: dict[str, Array] = field(default_factory=dict, repr=False)

    def split(self, name: str) -> SplitSample | None:
        """One split."""
        return next((split for split in self.splits if split.name == name), None)

    @property
    def base(self) -> SplitSample:
        """The training split, or the whole where there are no splits."""
        return self.split(TRAIN) or self.splits[0]

    @property
    def others(self) -> tuple[SplitSample, ...]:
        """The splits that are not for training, where one is."""
        return tuple(s for s in self.splits if s is not self.base) if self.split(TRAIN) else ()

    @property
    def classifies(self) -> bool:
        """Whether the target is one of a few classes."""
        return bool(self.classes)

    @cached_property
    def levels(self) -> dict[str, dict[str, int]]:
        """The commonest 200 values of each category column in all splits, numbered."""
        found = {}
        for name in self.compared:
            if self.kinds[name] == "category":
                counts = Counter(value for split in self.splits for value in split.values[name].tolist())
                counts.pop(None, None)
                kept = sorted(counts or ["-"], key=lambda value: (-counts[value], value))[:200]
                found[name] = {value: place for place, value in enumerate(sorted(kept))}
        return found

    def column(self, split: SplitSample, name: str) -> Array:
        """A feature as numbers: a category by its place among the levels, a text by its length."""
        values, kind = split.values[name], self.kinds[name]
        if kind not in ("category", "text"):
            return values
        if (split.name, name) not in self._columns:
            levels: dict[Any, float] = dict(self.levels.get(name, {})) if kind == "category" else {}
            for value in {*values.tolist()} - {*levels}:
                levels[value] = np.nan if value is None else -1 if kind == "category" else len(value)
            self._columns[split.name, name] = np.array([levels[value] for value in values.tolist()], dtype=float)
        return self._columns[split.name, name]

    def matrix(self, split: SplitSample, names: tuple[str, ...] | None = None) -> Array:
        """The features as numbers, (rows, columns): a column each, and what the words of a text say in `TOPICS` more."""
        names = names if names is not None else self.features
        columns = [self.column(split, name) for name in names]
        columns += [self.topics[split.name, name] for name in names if (split.name, name) in self.topics]
        return np.column_stack(columns) if columns else np.empty((len(split.rows), 0))

    @cached_property
    def prose(self) -> tuple[str, ...]:
        """The text columns that hold sentences."""
        return tuple(name for name in self.features if self.kinds[name] == "text" and _prose(self.base.values[name]))

    @cached_property
    def topics(self) -> dict[tuple[str, str], Array]:
        """By split and text column the principal components of the hashed words, (rows, `TOPICS`); no target is used."""
        found: dict[tuple[str, str], Array] = {}
        for name in self.prose[:2]:
            from doctor.samples.hashed_words import hashed_words

            words = {
                split.name: np.stack([hashed_words(value or "") for value in split.values[name]])
                for split in self.splits
            }
            base = words[self.base.name][:: max(1, len(self.base.rows) // 3_000)]
            _, axes = np.linalg.eigh(base.T @ base)
            for split, own in words.items():
                found[split, name] = own @ axes[:, -TOPICS:]
        return found

    def labels(self, split: SplitSample) -> Array:
        """The target: the number of the class (-1 for none), or float64."""
        assert self.target is not None
        values = split.values[self.target]
        if not self.classifies:
            return values
        if split.name not in self._labels:
            places = {value: place for place, value in enumerate(self.classes)}
            self._labels[split.name] = np.array([places.get(value, -1) for value in values.tolist()])
        return self._labels[split.name]

    def known(self, split: SplitSample, rows: int) -> Array:
        """The places of at most so many rows (drawn by chance) whose target is known and that chose no features."""
        labels = self.labels(split)
        usable = labels >= 0 if self.classifies else np.isfinite(labels)
        if self.spent is not None and split is self.base:
            usable[self.spent] = False
        known = np.flatnonzero(usable)
        return known if len(known) <= rows else np.sort(np.random.default_rng(0).choice(known, rows, replace=False))


@probe
def table_sample(source: DataSource, profile: TableProfile, ids: Identifiers, codes: MissingCodes) -> TableSample:
    """Columns that name rows or hold nested values are left out, and what stands for missing is missing."""
    tables = source.tables
    kinds: dict[str, str] = {}
    for column in profile.columns:
        over = len(kinds) >= COLUMNS and column.role != "target"
        if column.column.kind == NESTED or column.role == "split" or over:
            continue
        kinds[column.name] = _kind(column.column.kind, len(column.counts), column.rows)
    gone = {code.column: frozenset(code.values) for code in codes.codes if code.kind == "number"}
    splits = tuple(_split(tables, number, name, kinds, gone) for number, name in tables.each_split())
    features = tuple(
        column.name for column in profile.features
        if column.name in kinds and column.name not in ids.names and not column.column.absent
        and not (kinds[column.name] == "text" and named_like_id(column.name))
    )  # fmt: skip
    target = profile.target.name if profile.target and profile.target.name in kinds else None
    classes: tuple[Any, ...] = ()
    if target is not None:
        values = np.concatenate([split.values[target] for split in splits])
        classes = _classes(values, kinds[target], profile.target.column.kind)  # type: ignore[union-attr]
    sample = TableSample(splits, kinds, features, target, classes, features)
    if len(features) <= MODELLED or target is None:
        return replace(sample, features=features[:MODELLED])
    spent = np.arange(0, len(sample.base.rows), 2)
    return replace(sample, features=_telling(sample, spent), spent=spent)


def _telling(sample: TableSample, spent: Array, bins: int = 12) -> tuple[str, ...]:
    """The features that tell most of the target on these rows, each cut into bins of equally many rows: by the share of the
    target's variance (of its classes, each as a 0 or 1) that lies between the bins. Those for which it is more than chance
    makes in so many columns (chi square, Bonferroni), since a model drowns in the others.
    """
    from scipy.stats import chi2

    labels = sample.labels(sample.base)[spent]
    usable = labels >= 0 if sample.classifies else np.isfinite(labels)
    spent, labels = spent[usable], labels[usable]
    if not len(spent):
        return sample.features[:MODELLED]
    commonest = np.argsort(-np.bincount(labels), kind="stable")[:10] if sample.classifies else ()
    targets = (labels[:, None] == commonest).astype(float) if sample.classifies else labels[:, None]
    targets = targets - targets.mean(axis=0)
    between = np.zeros(len(sample.features))
    for place, name in enumerate(sample.features):
        values = sample.column(sample.base, name)[spent]
        finite = np.isfinite(values)
        edges = np.unique(np.quantile(values[finite], np.arange(1, bins) / bins)) if finite.any() else np.empty(0)
        cut = np.where(finite, np.searchsorted(edges, values, side="right"), bins)
        counts = np.bincount(cut, minlength=bins + 1)
        sums = np.stack([np.bincount(cut, column, bins + 1) for column in targets.T])
        between[place] = float((sums**2 / np.maximum(counts, 1)).sum())
    freedom = targets.shape[1] - 1 if sample.classifies else 1
    statistic = len(spent) * max(freedom, 1) * between / max(float((targets**2).sum()), 1e-12)
    sure = int((statistic > chi2.isf(0.01 / len(between), (bins - 1) * max(freedom, 1))).sum())
    best = np.sort(np.argsort(-between, kind="stable")[: min(MODELLED, max(FEW_TELLING, sure))])
    return tuple(sample.features[place] for place in best)


def _prose(values: Array) -> bool:
    known = [value for value in values[:2000] if value is not None]
    return len(known) >= 20 and float(np.mean([len(value.split()) for value in known])) >= WORDS


def _kind(kind: str, distinct: int, rows: int) -> str:
    if kind == TIME:
        return "time"
    if kind == TEXT:
        return "category" if 0 < distinct <= max(50, min(1000, rows // 20)) else "text"
    return "category" if kind == BOOLEAN else "number"


def _split(
    tables: Tables, number: int, name: str, kinds: dict[str, str], gone: dict[str, frozenset[str]]
) -> SplitSample:
    total = tables.rows_by_split[name]
    picked, names = ["row_no"], list(kinds)
    for place, column in enumerate(names):
        known = tables.named(column)
        assert known is not None
        value = tables.dialect.text(known.key) if kinds[column] in ("category", "text") else (
            tables.dialect.seconds(known.key) if kinds[column] == "time" else f"CAST({known.key} AS DOUBLE)"
        )  # fmt: skip
        picked.append(f"{value} AS s{place}")
    keys = ", ".join(("split_no", "row_no", *(c.key for c in tables.columns if c.name in kinds)))
    source = f"SELECT {keys} FROM ({tables.some(number, ROWS)}) AS s"
    frame = tables.engine.frame(f"SELECT {', '.join(picked)} FROM ({source}) AS v ORDER BY row_no")
    values: dict[str, Array] = {}
    for place, column in enumerate(names):
        series = frame[f"s{place}"]
        if kinds[column] in ("category", "text"):
            own = series.astype(object).where(series.notna(), None).to_numpy()
        else:
            own = series.to_numpy(dtype=float, na_value=np.nan).copy()
            own[~np.isfinite(own)] = np.nan
            for code in gone.get(column, ()):
                own[own == float(code)] = np.nan
        values[column] = own
    return SplitSample(name, total, frame["row_no"].to_numpy(), values)


def _classes(values: Array, kind: str, stored: str) -> tuple[Any, ...]:
    """The classes of a target that has a few: texts, booleans, or whole numbers."""
    if kind in ("category", "text"):
        known = sorted({v for v in values if v is not None})
        return tuple(known) if 2 <= len(known) <= 200 and len(known) <= 0.2 * len(values) else ()
    if kind != "number":
        return ()
    finite = values[np.isfinite(values)]
    known_numbers = np.unique(finite)
    few = 2 <= len(known_numbers) <= (50 if stored == "integer" else 10) and len(known_numbers) <= 0.1 * len(finite)
    return tuple(float(v) for v in known_numbers) if few and np.all(known_numbers == np.round(known_numbers)) else ()
