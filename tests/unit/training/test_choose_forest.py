"""A forest that is fitted anew goes out only if it is better than the one in use."""

from __future__ import annotations

import numpy as np
import pytest
from detection import models

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.forest import FlatForest
from layerwatch.detectors.pooled import NAMES
from layerwatch.schemas.errors import ConfigError
from layerwatch.training.choose_forest import choose_forest, split
from layerwatch.training.fit_forest import fit_forest


def windows(count: int, spread: float = 1.0, seed: int = 0) -> F64:
    return spread * np.random.default_rng(seed).standard_normal((count, len(NAMES)))


def shipped() -> FlatForest:
    forest = models().forest
    assert forest is not None
    return forest


def test_the_latest_quarter_of_a_build_is_held_out() -> None:
    fit, held_out = split(np.arange(400.0)[:, None])
    assert (len(fit), len(held_out)) == (300, 100)
    assert fit.max() < held_out.min()


def test_where_healthy_windows_are_wide_a_forest_of_their_own_is_better() -> None:
    fit, held_out = split(windows(800, spread=8.0))
    choice = choose_forest(fit, held_out, shipped())
    assert choice.better
    assert choice.held_out == 200
    assert choice.fitted.healthy < choice.present.healthy
    assert choice.fitted.displaced > 0.1


def test_a_forest_that_raises_more_healthy_windows_is_not_however_much_it_recognises() -> None:
    fit, held_out = split(windows(600))
    choice = choose_forest(fit, held_out, fit_forest(windows(2000, seed=1), seed=1))
    assert choice.fitted.displaced > choice.present.displaced
    assert choice.fitted.healthy > choice.present.healthy == 0
    assert not choice.better


def test_the_same_forest_again_is_not_better() -> None:
    fit, held_out = split(windows(600))
    assert not choose_forest(fit, held_out, fit_forest(fit)).better


def test_a_forest_that_was_fitted_on_faults_too_is_blind_to_them_and_not_better() -> None:
    fit, held_out = split(windows(600))
    spoilt = np.concatenate((fit, 20 + windows(60, 8.0, seed=2)))[
        np.random.default_rng(0).permutation(len(fit) + 60)
    ]
    choice = choose_forest(spoilt, held_out, fit_forest(fit))
    assert not choice.better
    assert choice.fitted.displaced < choice.present.displaced


def test_too_few_windows_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="record longer, or name more recordings"):
        choose_forest(windows(40), windows(20), shipped())
