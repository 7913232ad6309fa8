"""Every model that healthy data suffice for; those that are no better stay away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("torch")

from detection import models

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.models import updated
from layerwatch.detectors.pooled import NAMES
from layerwatch.schemas.errors import ConfigError
from layerwatch.training.fit import Fitted, fit_all
from layerwatch.training.harvest import Harvest

pytestmark = pytest.mark.torch

CALM, WIDE, RARE = "calm", "wide", "rare"


def windows(count: int, spread: float, seed: int) -> list[F64]:
    return [spread * np.random.default_rng(seed).standard_normal((count, len(NAMES)))]


def fitted(harvest: Harvest) -> Fitted:
    forest = models().forest
    assert forest is not None
    return fit_all(harvest, forest, 5.0, silent)


@contextmanager
def silent(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def test_a_build_gets_a_forest_of_its_own_where_that_is_better() -> None:
    harvest = Harvest({CALM: windows(2000, 0.5, 1), WIDE: windows(400, 10.0, 2), RARE: windows(200, 10.0, 3)})
    out = fitted(harvest)
    own = {model.build for model in out.models if model.build != "*"}
    assert own == {WIDE}
    assert out.kept == [CALM]
    assert list(out.report["forest"]["builds"]) == [CALM, WIDE]
    running = models()
    for model in out.models:
        assert model.valid_from_s == 5.0
        running = updated(running, model)
    assert running.forest_of(WIDE) is not running.forest_of(CALM)
    assert running.forest_of(RARE) is running.forest


def test_what_there_is_too_little_for_is_left_as_it_is() -> None:
    out = fitted(Harvest(seconds=[np.cumsum(np.random.default_rng(0).normal(0, 0.01, 100))]))
    assert [model.key for model in out.models] == ["*/lstm/level"]
    assert "left as it is" in out.report["forest"]
    assert "left as it is" in out.report["slow_lstm"]


def test_too_little_for_any_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"healthy windows are too few.*let instances run for longer"):
        fitted(Harvest())
