"""Fitting the forecaster with torch; a few steps, to see that it learns."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from layerwatch.detectors.forecast import LevelForecast
from layerwatch.detectors.models import lstm_bytes, lstm_from
from layerwatch.schemas.errors import ConfigError
from layerwatch.training.fit_lstm import fit_lstm

pytestmark = pytest.mark.torch

SWING = [np.sin(np.arange(80) * 0.5 + phase) for phase in (0.0, 1.0)]  # what an EWMA cannot follow


def test_a_fitted_lstm_forecasts_what_an_ewma_cannot() -> None:
    steps: list[int] = []
    weights, held_out = fit_lstm(SWING, steps.append, steps=80)
    assert steps == [0, 20, 40, 60, 80]
    assert held_out.blocks == 40
    assert held_out.lstm < 0.8 * held_out.naive < held_out.ewma
    forecast = LevelForecast(lstm_from(lstm_bytes(weights)))
    for value in SWING[0]:
        forecast.learn(float(value))
    surprise = forecast.judge(0.0)
    assert surprise is not None
    assert surprise.champion == "lstm"


def test_without_a_step_the_forecast_is_no_change() -> None:
    _, held_out = fit_lstm(SWING, lambda _: None, steps=0)
    assert held_out.lstm == pytest.approx(held_out.naive)


def test_the_same_runs_give_the_same_weights() -> None:
    one, other = (fit_lstm(SWING, lambda _: None, steps=20)[0] for _ in range(2))
    assert lstm_bytes(one) == lstm_bytes(other)


@pytest.mark.parametrize("runs", [[], [np.zeros(39)], [np.zeros(7)] * 20])
def test_too_few_blocks_are_refused_with_what_to_do(runs: list[np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="record longer, or name more recordings"):
        fit_lstm(runs, lambda _: None)
