"""Forecasters, and which of them is believed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.forecast import Ewma, LevelForecast, Lstm, LstmWeights, lstm_step

HIDDEN = 4


def weights(seed: int) -> LstmWeights:
    draw = np.random.default_rng(seed)
    return LstmWeights(
        input=0.5 * draw.standard_normal(16),
        recurrent=0.5 * draw.standard_normal((16, HIDDEN)),
        bias=0.5 * draw.standard_normal(16),
        head=0.5 * draw.standard_normal(HIDDEN),
        head_bias=0.0,
        scale=0.1,
    )


def no_change(drift: float = 0.0) -> LstmWeights:
    """An LSTM that forecasts the last value and `drift` more."""
    silent = weights(0)
    return dataclasses.replace(silent, head=np.zeros(HIDDEN), head_bias=drift / silent.scale)


RAMP = 0.1 * np.arange(60.0)  # an EWMA lags behind it; the last value and its slope is right
FLAT = np.random.default_rng(4).normal(0.2, 0.02, 60)


def taught(values: F64, lstm: LstmWeights | None) -> LevelForecast:
    forecast = LevelForecast(lstm)
    for value in values:
        forecast.learn(float(value))
    return forecast


def champion(forecast: LevelForecast) -> str:
    surprise = forecast.judge(0.0)
    assert surprise is not None
    return surprise.champion


@pytest.mark.torch
def test_the_plain_step_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    from layerwatch.training.fit_lstm import weights_of

    torch.manual_seed(5)
    lstm, head = torch.nn.LSTM(1, 16, batch_first=True), torch.nn.Linear(16, 1)
    inputs = np.random.default_rng(5).standard_normal(50).astype(np.float32)
    with torch.no_grad():
        states, _ = lstm(torch.tensor(inputs)[None, :, None])
        outputs = head(states)[0, :, 0].numpy()
    w = weights_of(lstm, head, scale=1.0)
    hidden, cell = np.zeros(16), np.zeros(16)
    for i, x in enumerate(inputs):
        hidden, cell = lstm_step(w, float(x), hidden, cell)
        assert hidden == pytest.approx(states[0, i].numpy(), abs=1e-6)
        assert float(hidden @ w.head + w.head_bias) == pytest.approx(float(outputs[i]), abs=1e-6)


def test_an_ewma_is_the_mean_at_first_and_forgets_later() -> None:
    ewma = Ewma(alpha=0.2)
    for value in (1.0, 2.0, 3.0):
        ewma.update(value)
    assert ewma.predict() == pytest.approx(2.0)
    for _ in range(40):
        ewma.update(9.0)
    assert ewma.predict() == pytest.approx(9.0, abs=0.01)


def test_there_is_no_opinion_before_eight_blocks() -> None:
    forecast = LevelForecast(None)
    for value in FLAT[:8]:
        assert forecast.judge(float(value)) is None
        forecast.learn(float(value))
    assert forecast.judge(0.2) is not None


def test_a_jump_is_a_surprise_in_log_units_and_in_healthy_errors() -> None:
    forecast = taught(FLAT, None)
    usual, jump = forecast.judge(0.2), forecast.judge(1.2)
    assert usual is not None
    assert jump is not None
    assert abs(usual.score) < 2
    assert jump.residual == pytest.approx(1.0, abs=0.05)
    assert jump.score > 8


def test_judging_changes_nothing() -> None:
    forecast = taught(FLAT, weights(1))
    before = pack(forecast.state())
    forecast.judge(7.0)
    assert pack(forecast.state()) == before


def test_the_champion_has_the_lower_healthy_error() -> None:
    assert champion(taught(RAMP, no_change(drift=0.1))) == "lstm"
    assert champion(taught(FLAT, no_change(drift=0.3))) == "ewma"


def test_without_an_lstm_the_ewma_is_believed() -> None:
    assert champion(taught(RAMP, None)) == "ewma"


def resumed(forecast: LevelForecast, lstm: LstmWeights | None) -> LevelForecast:
    back = LevelForecast(lstm)
    back.load(unpack(pack(forecast.state())))
    return back


def test_a_first_lstm_has_to_earn_its_place() -> None:
    forecast = resumed(taught(RAMP, None), no_change(drift=0.1))
    assert champion(forecast) == "ewma"
    for value in RAMP[-1] + 0.1 * np.arange(1.0, 200):
        forecast.learn(float(value))
    assert champion(forecast) == "lstm"


def test_a_new_lstm_does_not_inherit_what_the_one_before_has_earned() -> None:
    good, bad = no_change(drift=0.1), no_change(drift=-2.0)
    before = taught(RAMP, good)
    assert champion(before) == "lstm"
    assert champion(resumed(before, bad)) == "ewma"
    assert champion(resumed(before, good)) == "lstm"


def test_a_new_lstm_does_not_take_up_the_memory_of_another_one() -> None:
    old, new = Lstm(weights(1)), Lstm(weights(2))
    for value in RAMP[:10]:
        old.update(float(value))
    assert not new.load(old.state())
    assert not new.hidden.any()
    assert new.last == RAMP[9]


def test_an_lstm_of_another_size_can_follow() -> None:
    small = LstmWeights(np.zeros(8), np.zeros((8, 2)), np.zeros(8), np.zeros(2), 0.0, 1.0)
    forecast = resumed(taught(RAMP, no_change(drift=0.1)), small)
    forecast.learn(6.0)
    assert champion(forecast) == "ewma"


def test_what_is_restored_goes_on_as_before() -> None:
    lstm = weights(3)
    forecast = taught(FLAT, lstm)
    back = resumed(forecast, lstm)
    for value in (0.1, 0.3, 0.7):
        assert back.judge(value) == forecast.judge(value)
        back.learn(value)
        forecast.learn(value)
