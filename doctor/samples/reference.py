"""The reference model: extremely randomised trees and a linear model on simple features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from doctor.errors import Unavailable

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
MOST = 20_000
_FOLDS = 4
_TREES = 60
_TREES_UP_TO = 8000  # samples; beyond, the linear model alone


def _models(count: int, kind: str) -> list[Any]:
    """The two models; texts (sparse words) have the linear one alone."""
    try:
        from sklearn.ensemble import ExtraTreesClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise Unavailable("reference models need scikit-learn; pip install 'pytorch-doctor[samples]'") from None
    if kind == "text":
        return [LogisticRegression(C=8.0, max_iter=200)]
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=60))
    if count > _TREES_UP_TO:
        return [linear]
    return [linear, ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=0)]


def fitted(x: Floats, y: Ints, kind: str) -> Callable[[Floats, int], Floats]:
    """A function of new features and the number of classes that gives probabilities, shape (samples, classes)."""
    import warnings

    models = _models(len(x), kind)
    known = np.unique(y)
    if len(known) < 2:
        return lambda new, classes: np.tile(
            np.eye(classes, dtype=np.float32)[known[0] if len(known) else 0], (len(new), 1)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in models:
            model.fit(x, y)

    def predict(new: Floats, classes: int) -> Floats:
        out = np.zeros((len(new), classes), np.float32)
        for model in models:
            out[:, known] += model.predict_proba(new).astype(np.float32) / len(models)
        return out

    return predict


def out_of_fold(
    x: Floats, y: Ints, groups: Ints, classes: int, kind: str, changed: Floats | None = None
) -> tuple[Floats, Floats | None]:
    """Probabilities for each sample by models that saw neither it nor a copy of it, (samples, classes); and the same
    models' for the `changed` features of these samples.
    """
    generator = np.random.default_rng(0)
    own = np.where(groups >= 0, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))
    _, place = np.unique(own, return_inverse=True)
    fold = generator.integers(0, _FOLDS, place.max(initial=0) + 1)[place]
    out = np.zeros((len(x), classes), np.float32)
    other = np.zeros((len(x), classes), np.float32) if changed is not None else None
    for number in range(_FOLDS):
        inside = fold == number
        if inside.any() and not inside.all():
            model = fitted(x[~inside], y[~inside], kind)
            out[inside] = model(x[inside], classes)
            if other is not None and changed is not None:
                other[inside] = model(changed[inside], classes)
    return out, other


def ridge_guesses(x: Floats, labels: list[Ints], classes: int) -> list[Ints]:
    """For each of several labellings of the same samples the classes that ridge regression guesses, out of fold: all of
    them for little more than the cost of one.
    """
    scaled = (x - x.mean(0)) / (x.std(0) + 1e-6)
    targets = np.concatenate([np.eye(classes, dtype=np.float32)[y] for y in labels], 1)
    guessed = np.zeros_like(targets)
    fold = np.arange(len(x)) * _FOLDS // max(len(x), 1)  # blocks, so that a moved label is of the same fold
    for number in range(_FOLDS):
        inside = fold == number
        seen = scaled[~inside]
        gram = seen.T @ seen + 0.1 * len(seen) * np.eye(x.shape[1], dtype=np.float32)
        centre = targets[~inside].mean(0)
        guessed[inside] = scaled[inside] @ np.linalg.solve(gram, seen.T @ (targets[~inside] - centre))
    return [part.argmax(1) for part in np.split(guessed, len(labels), 1)]
