"""Fitting the forecaster of the slow path with torch; a few steps, to see that it learns."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.models import lstm_bytes, lstm_from
from layerwatch.detectors.slow.forecasts import LSTM, Forecasts, deviations, usual_changes
from layerwatch.schemas.errors import ConfigError
from layerwatch.training.fit_minutes import fit_minutes

pytestmark = pytest.mark.torch


def swings(count: int, blocks: int = 400) -> list[F64]:
    """What neither an EWMA nor "no change" can follow."""
    return [0.02 * np.sin(np.arange(blocks) * 0.9 + phase) for phase in range(count)]


def test_a_fitted_lstm_forecasts_what_an_ewma_cannot() -> None:
    steps: list[int] = []
    weights, held_out = fit_minutes(swings(4), steps.append, steps=100)
    assert steps == [0, 50, 100]
    assert held_out.lstm < 0.5 * min(held_out.naive, held_out.ewma)
    assert (
        held_out.blocks == 4 * 99
    )  # the last quarter of each run, whose very last block has nothing after it
    forecasts = Forecasts(1, lstm_from(lstm_bytes(weights)))
    for value in swings(1)[0]:
        forecasts.update(np.array([value]), np.ones(1, bool))
    assert forecasts._loss[0].argmin() == LSTM or forecasts._loss[0, LSTM] < forecasts._loss[0, 0]


def test_changes_are_as_usual_as_the_slow_path_takes_them_for() -> None:
    values = np.cumsum(np.random.default_rng(0).standard_normal(300))
    forecasts = Forecasts(1, None)
    seen = []
    for value in values:
        forecasts.update(np.array([value]), np.ones(1, bool))
        seen.append(float(forecasts._change[0]))
    ours = usual_changes(np.diff(values, prepend=values[:1]))
    assert ours[20:] == pytest.approx(seen[20:], rel=0.05)  # up to outliers, which it tames


def test_without_a_step_the_forecast_is_the_ewma() -> None:
    _, held_out = fit_minutes(swings(4), lambda _: None, steps=0)
    assert held_out.lstm == pytest.approx(held_out.ewma)


def test_a_surprise_is_not_read() -> None:
    off, usual = np.array([-2.9, 2.9, 3.1, -40.0]), np.ones(4)
    assert deviations(off, usual).tolist() == [-2.9, 2.9, 0.0, 0.0]


def test_runs_of_any_length_are_fitted_on() -> None:
    runs = [np.random.default_rng(n).standard_normal(n) for n in (120, 121, 500, 1500)]
    _, held_out = fit_minutes(runs, lambda _: None, steps=10)
    assert held_out.lstm <= held_out.ewma * 1.02


def test_the_same_runs_give_the_same_weights() -> None:
    one, other = (fit_minutes(swings(4), lambda _: None, steps=20)[0] for _ in range(2))
    assert lstm_bytes(one) == lstm_bytes(other)


@pytest.mark.parametrize("runs", [[], [np.zeros(1439)], [np.zeros(119)] * 40])
def test_too_few_minutes_are_refused_with_what_to_do(runs: list[F64]) -> None:
    with pytest.raises(ConfigError, match="let instances run for longer"):
        fit_minutes(runs, lambda _: None)
