"""Flattened forests against scikit-learn's own scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from layerwatch.detectors.forest import average_path
from layerwatch.training.fit_forest import flatten


@pytest.mark.parametrize("rows", [2, 3, 17, 256, 400])
@pytest.mark.parametrize(("features", "share"), [(12, 1.0), (12, 0.5), (1, 1.0), (5, 0.3)])
def test_scores_are_those_of_scikit_learn(rows: int, features: int, share: float) -> None:
    draw = np.random.default_rng(rows)
    fitted = IsolationForest(n_estimators=20, max_features=share, random_state=0).fit(
        draw.standard_normal((rows, features))
    )
    probes = np.vstack(
        [
            draw.standard_normal((40, features)),
            1e6 * draw.standard_normal((10, features)),  # far outside of what it was fitted on
            np.zeros((1, features)),
        ]
    )
    assert np.abs(flatten(fitted).score(probes) + fitted.score_samples(probes)).max() < 1e-12


def test_values_at_the_splits_go_the_way_of_single_precision() -> None:
    fitted = IsolationForest(random_state=0).fit(np.random.default_rng(2).standard_normal((200, 3)))
    forest = flatten(fitted)
    for factor in (1 - 1e-9, 1.0, 1 + 1e-9):
        probes = np.resize(forest.split * factor, (300, 3))
        assert np.abs(forest.score(probes) + fitted.score_samples(probes)).max() < 1e-12


def test_equal_values_are_no_reason_to_fail() -> None:
    rows = np.tile([[1.0, 2.0]], (50, 1))
    fitted = IsolationForest(n_estimators=5, random_state=0).fit(rows)
    assert flatten(fitted).score(rows) == pytest.approx(-fitted.score_samples(rows), abs=1e-12)


def test_what_lies_apart_scores_higher() -> None:
    draw = np.random.default_rng(1)
    rows = draw.standard_normal((300, 4))
    forest = flatten(IsolationForest(random_state=0).fit(rows))
    assert forest.score(np.full((1, 4), 6.0))[0] > np.quantile(forest.score(rows), 0.99)


def test_the_average_path_is_that_of_the_paper() -> None:
    harmonic = [sum(1 / k for k in range(1, n)) for n in (50, 256)]
    exact = [2 * h - 2 * (n - 1) / n for h, n in zip(harmonic, (50, 256), strict=True)]
    assert average_path(np.array([50.0, 256.0])) == pytest.approx(exact, rel=5e-3)
    assert average_path(np.array([0.0, 1.0, 2.0])).tolist() == [0, 0, 1]
