"""Forecasts of load: which is believed, how far they are off, and that a restart changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.load.block import BLOCK_S
from layerwatch.detectors.load.forecasts import EWMA, NLINEAR, SPAN, RateForecasts
from layerwatch.detectors.load.lstm import LoadLstm, from_bytes, shipped, to_bytes

_AHEAD = 4


def _ramps(n: int) -> F64:
    """Up and down every 20 minutes: what comes can be told from what was."""
    t = np.arange(n)
    out: F64 = 20 + 10 * np.sin(2 * np.pi * t / 80) + np.random.default_rng(0).normal(0, 0.3, n)
    return out


def _noise(n: int) -> F64:
    return np.random.default_rng(1).poisson(10 * BLOCK_S, n) / BLOCK_S


def _run(rates: F64, lstm: LoadLstm | None = None, quantile: float = 0.9) -> tuple[RateForecasts, F64]:
    """The forecasts, and for each block (expected, upper)."""
    forecasts = RateForecasts(_AHEAD, lstm)
    return forecasts, np.array([forecasts.update(float(r), quantile)[:2] for r in rates])


def _after(rates: F64) -> F64:
    """What each block's forecast is about; NaN where the future is not known."""
    out = np.full(len(rates), np.nan)
    for i in range(len(rates) - _AHEAD - SPAN):
        out[i] = rates[i + _AHEAD + 1 : i + _AHEAD + 1 + SPAN].mean()
    return out


def test_ramps_are_the_linear_maps_and_noise_is_the_ewmas() -> None:
    ramping, told = _run(_ramps(500))
    assert ramping.champion == NLINEAR
    assert ramping.loss[NLINEAR] < 0.5 * ramping.loss[EWMA]
    late = slice(250, 490)
    assert np.abs(told[late, 0] - _after(_ramps(500))[late]).mean() < 2
    steady, _ = _run(_noise(500))
    assert steady.champion == EWMA


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_the_upper_rate_is_exceeded_as_seldom_as_was_asked(quantile: float) -> None:
    rates = _noise(3000)
    _, told = _run(rates, quantile=quantile)
    after = _after(rates)[300:-10]
    assert np.mean(after <= told[300:-10, 1]) >= quantile - 0.05
    if quantile > 0.5:
        assert np.mean(after <= told[300:-10, 1]) <= quantile + 0.05


def test_a_restart_changes_nothing() -> None:
    rates = _ramps(300)
    _, whole = _run(rates, shipped())
    first = RateForecasts(_AHEAD, shipped())
    for rate in rates[:150]:
        first.update(float(rate), 0.9)
    second = RateForecasts.restore(unpack(pack(first.state())), _AHEAD, shipped())
    rest = np.array([second.update(float(r), 0.9)[:2] for r in rates[150:]])
    np.testing.assert_array_equal(rest, whole[150:])


def test_under_another_lstm_the_others_go_on_and_under_another_start_up_time_all_begins_anew() -> None:
    first, _ = _run(_ramps(300), shipped())
    other = RateForecasts.restore(unpack(pack(first.state())), _AHEAD, None)
    assert other.champion == NLINEAR
    assert other.update(20.0, 0.9).expected > 0
    assert RateForecasts.restore(unpack(pack(first.state())), _AHEAD + 1, shipped()).smoothed.seen == 0


def test_an_lstm_survives_the_way_through_bytes() -> None:
    model = shipped()
    again = from_bytes(to_bytes(model))
    assert again.fingerprint == model.fingerprint
    hidden, cell = model.step(0.5, np.zeros(model.hidden), np.zeros(model.hidden))
    assert model.read(hidden, 8) == pytest.approx((model.read(hidden, 4) + model.read(hidden, 12)) / 2)
    assert again.step(0.5, np.zeros(model.hidden), np.zeros(model.hidden))[0] == pytest.approx(hidden)
    assert cell.shape == hidden.shape
