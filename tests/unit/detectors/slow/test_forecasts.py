"""Forecasters of many streams, and which of them is believed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.forecast import LstmWeights, lstm_step
from layerwatch.detectors.models import shipped
from layerwatch.detectors.slow.forecasts import EWMA, LSTM, NLINEAR, Forecasts, lstm_steps

DRAW = np.random.default_rng(1)
FLAT = 0.01 * DRAW.standard_normal(600)
ALTERNATING = np.where(np.arange(600) % 2, 0.05, -0.05) + 0.002 * DRAW.standard_normal(600)


def lstm() -> LstmWeights:
    weights = shipped().slow_lstm
    assert weights is not None
    return weights


def run(forecasts: Forecasts, values: F64, present: F64 | None = None) -> F64:
    """Residuals [blocks, streams]."""
    there = np.ones(values.shape, bool) if present is None else present
    return np.array([forecasts.update(v, p) for v, p in zip(values, there, strict=True)])


def test_many_steps_at_once_are_those_of_the_lstm_one_by_one() -> None:
    w, draw = lstm(), np.random.default_rng(3)
    x = draw.standard_normal(5).astype(np.float32)
    hidden, cell = (draw.standard_normal((5, w.hidden)).astype(np.float32) for _ in range(2))
    together = lstm_steps(w, x, hidden, cell)
    for i in range(5):
        alone = lstm_step(w, float(x[i]), hidden[i].astype(float), cell[i].astype(float))
        assert together[0][i] == pytest.approx(alone[0], abs=1e-5)
        assert together[1][i] == pytest.approx(alone[1], abs=1e-5)


def test_the_ewma_is_believed_while_cold_and_the_better_one_later() -> None:
    forecasts = Forecasts(2, None)
    values = np.column_stack((FLAT, ALTERNATING))
    run(forecasts, values[:100])
    assert forecasts.champion.tolist() == [EWMA, EWMA]
    residuals = run(forecasts, values[100:])
    assert forecasts.champion[1] == NLINEAR
    assert np.abs(residuals[-100:, 1]).mean() < 0.01


def test_a_champion_stays_unless_the_challenger_is_clearly_better() -> None:
    never_right = dataclasses.replace(lstm(), head=np.zeros(lstm().hidden), head_bias=0.0)
    forecasts = Forecasts(1, never_right)  # "no change": worse than a mean on independent values
    run(forecasts, FLAT[:, None])
    assert forecasts.champion[0] != LSTM


def test_an_outlier_moves_the_forecast_by_little() -> None:
    forecasts = Forecasts(1, None)
    run(forecasts, FLAT[:200, None])
    before, spread = forecasts.expected[0], forecasts.spread[0]
    residual = run(forecasts, np.array([[5.0]]))
    assert residual[0, 0] == pytest.approx(5.0, abs=0.1)
    assert abs(forecasts.expected[0] - before) < 8 * spread


def test_a_stream_without_a_value_stays_as_it_was() -> None:
    both, alone = Forecasts(2, lstm()), Forecasts(1, lstm())
    values = np.column_stack((FLAT[:59], ALTERNATING[:59]))
    there = np.ones(values.shape, bool)
    there[::3, 0] = False
    run(both, values, there)
    run(alone, values[there[:, 0], :1])
    assert both.expected[0] == pytest.approx(alone.expected[0], abs=1e-12)
    assert both.seen.tolist() == [int(there[:, 0].sum()), 59]


@pytest.mark.parametrize("cut", [1, 59, 60, 130, 400])
def test_a_restart_changes_no_forecast(cut: int) -> None:
    values = np.column_stack((FLAT, ALTERNATING))
    whole = Forecasts(2, lstm())
    run(whole, values[:cut])
    other = Forecasts.restore(unpack(pack(whole.state())), lstm())
    assert (run(whole, values[cut:]) == run(other, values[cut:])).all()


def test_another_lstm_has_to_earn_its_place() -> None:
    forecasts = Forecasts(1, lstm())
    run(forecasts, ALTERNATING[:300, None])
    forecasts.champion[:] = LSTM
    newer = dataclasses.replace(lstm(), head_bias=0.5)
    other = Forecasts.restore(unpack(pack(forecasts.state())), newer)
    assert other.champion[0] == EWMA
    assert np.isfinite(run(other, ALTERNATING[300:, None])).all()
