"""Fits the Isolation Forest with scikit-learn and flattens it."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import IsolationForest

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.forest import FlatForest, average_path
from layerwatch.schemas.errors import ConfigError

_TREES, _SAMPLES = 100, 256
_LEAST_WINDOWS = 64
_MARGIN = 0.005


def fit_forest(windows: F64, seed: int = 0) -> FlatForest:
    """Fitted on the even windows; the threshold is the largest score of the odd ones and a margin.

    Raises ConfigError when there are too few windows.
    """
    if len(windows) < _LEAST_WINDOWS:
        raise ConfigError(
            f"{len(windows)} healthy windows are too few to fit a forest on ({_LEAST_WINDOWS} are needed): "
            "record longer, or name more recordings"
        )
    fitted = IsolationForest(
        n_estimators=_TREES, max_samples=min(_SAMPLES, len(windows) // 2), random_state=seed
    )
    fitted.fit(windows[::2])
    forest = flatten(fitted)
    return FlatForest(
        **{name: getattr(forest, name) for name in FlatForest.__slots__ if name != "threshold"},
        threshold=float(forest.score(windows[1::2]).max()) + _MARGIN,
    )


def flatten(fitted: IsolationForest) -> FlatForest:
    """The trees of a fitted forest as arrays; `threshold` is 1, which no score exceeds."""
    feature, split, left, right, path, roots = [], [], [], [], [], []
    start, deepest = 0, 0
    for estimator, columns in zip(fitted.estimators_, fitted.estimators_features_, strict=True):
        tree = estimator.tree_
        leaf = tree.children_left < 0
        nodes = np.arange(tree.node_count) + start
        depth = _depths(tree.children_left, tree.children_right)
        feature.append(np.where(leaf, -1, np.asarray(columns)[np.maximum(tree.feature, 0)]))
        split.append(tree.threshold)
        left.append(np.where(leaf, nodes, tree.children_left + start))
        right.append(np.where(leaf, nodes, tree.children_right + start))
        path.append(np.where(leaf, depth + average_path(tree.n_node_samples), 0.0))
        roots.append(start)
        start += tree.node_count
        deepest = max(deepest, int(depth.max()))
    return FlatForest(
        feature=np.concatenate(feature),
        split=np.concatenate(split),
        left=np.concatenate(left),
        right=np.concatenate(right),
        path=np.concatenate(path),
        roots=np.array(roots),
        normaliser=float(average_path(np.array([fitted.max_samples_]))[0]),
        depth=deepest,
        threshold=1.0,
    )


def _depths(left: F64, right: F64) -> F64:
    depth = np.zeros(len(left))
    for node in range(len(left)):  # parents come before their children
        for child in (left[node], right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth
